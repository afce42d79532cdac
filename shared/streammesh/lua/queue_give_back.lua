#!lua flags=allow-oom
-- Gives entries back that one consumer holds and will not run; the next that reads takes them, in their
-- old order and under their own ids. Entries that are no longer his are left alone.
-- KEYS stream (STREAM)
-- ARGS group, me (the consumer), returned (owner of what is given back)
-- entries: ARGS id, begun (whether a handler may have begun it)
-- Returns how many were given back.
--#include _queue.lua
local given = 0
for _, entry in ipairs(entries) do
  local row = redis.pcall('XPENDING', stream, group, entry.id, entry.id, 1, me)
  if not row.err and #row == 1 then
    give_back(stream, group, returned, entry.id, row[1][4], entry.begun and 1 or 0)
    given = given + 1
  end
end
if given > 0 then ring(stream, group, me, returned) end
return given
