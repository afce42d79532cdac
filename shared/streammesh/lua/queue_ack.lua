#!lua flags=allow-oom
-- Acknowledges entries and deletes them. Entries that are gone already do no harm.
-- KEYS[1] and on: streams (STREAM)
-- ARGV[1] group, then per stream: number of entries, their ids
-- Returns how many were pending.
--#include _entry.lua
local PAGE = 1000  -- keeps unpack within Lua's stack
local a, acked = 2, 0
for _, stream in ipairs(KEYS) do
  local last = a + tonumber(ARGV[a])
  for first = a + 1, last, PAGE do
    local ids = { unpack(ARGV, first, math.min(first + PAGE - 1, last)) }
    acked = acked + gone(stream, ARGV[1], ids)
  end
  a = last + 1
end
return acked
