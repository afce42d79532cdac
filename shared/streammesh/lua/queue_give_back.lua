#!lua flags=allow-oom
-- Gives entries back that one consumer holds and will not run; the next that reads takes them, in their
-- old order and under their own ids. Entries that are no longer his are left alone.
-- KEYS[1] stream (STREAM)
-- ARGV[1] group  ARGV[2] consumer  ARGV[3] owner of what is given back
-- then per entry: id, 1 if a handler may have begun it, else 0
-- Returns how many were given back.
--#include _queue.lua
local group, me, returned, given = ARGV[1], ARGV[2], ARGV[3], 0
for i = 4, #ARGV, 2 do
  local row = redis.pcall('XPENDING', KEYS[1], group, ARGV[i], ARGV[i], 1, me)
  if not row.err and #row == 1 then
    give_back(KEYS[1], group, returned, ARGV[i], row[1][4], tonumber(ARGV[i + 1]))
    given = given + 1
  end
end
if given > 0 then ring(KEYS[1], group, me, returned) end
return given
