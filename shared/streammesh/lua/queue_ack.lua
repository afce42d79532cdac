#!lua flags=allow-oom
-- Acknowledges entries and deletes them. Entries that are gone already do no harm.
-- ARGS group
-- streams: KEYS key (STREAM) ARGS ids
-- Returns how many were pending.
--#include _entry.lua
local PAGE = 1000  -- keeps unpack within Lua's stack
local acked = 0
for _, stream in ipairs(streams) do
  for first = 1, #stream.ids, PAGE do
    acked = acked + gone(stream.key, group, { unpack(stream.ids, first, math.min(first + PAGE - 1, #stream.ids)) })
  end
end
return acked
