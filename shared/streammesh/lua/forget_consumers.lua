#!lua flags=allow-oom
-- Removes the consumers of a group that hold nothing and were not seen for a while. One that lives after
-- all is made anew by its next read.
-- KEYS stream (STREAM, of events or a queue)
-- ARGS group, idle (not seen for, ms)
-- Returns how many were removed.
--#include _groups.lua
local removed = 0
if redis.call('EXISTS', stream) == 0 then return 0 end
local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
if consumers.err then  -- the service was removed, and its group with it, since it was looked for
  if string.find(consumers.err, 'NOGROUP', 1, true) then return 0 end
  return consumers
end
for _, consumer in ipairs(consumers) do
  local info = named(consumer)
  if info.pending == 0 and info.idle >= idle then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, info.name)
    removed = removed + 1
  end
end
return removed
