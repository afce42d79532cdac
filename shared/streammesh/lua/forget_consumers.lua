#!lua flags=allow-oom
-- Removes the consumers of a group that hold nothing and were not seen for a while. One that lives after
-- all is made anew by its next read.
-- KEYS[1] events or queue (STREAM)
-- ARGV[1] group  ARGV[2] not seen for, ms
-- Returns how many were removed.
local removed = 0
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local info = {}
  for i = 1, #consumer, 2 do info[consumer[i]] = consumer[i + 1] end
  if info.pending == 0 and info.idle >= tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], info.name)
    removed = removed + 1
  end
end
return removed
