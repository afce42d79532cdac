#!lua flags=allow-oom
-- Notes that entries were sent to another broker, which has confirmed them. The entry of a delivery stays in the
-- queue until its task has ended: it is what the worker holds, and what is sent again when it is lost there. Any
-- other task is the broker's from now on. An entry that is no longer this forwarder's (a worker has begun it) is
-- left alone.
-- KEYS[1] queue (STREAM)  then per entry: task (HASH; of any task)
-- ARGV[1] group  ARGV[2] consumer  ARGV[3] owner of what was sent  then per entry: id
-- Returns how many stay.
local stream, group, stay = KEYS[1], ARGV[1], 0
for i = 4, #ARGV do
  local entry = ARGV[i]
  if #redis.call('XPENDING', stream, group, entry, entry, 1, ARGV[2]) > 0 then
    if redis.call('EXISTS', KEYS[i - 2]) == 1 then
      redis.call('XCLAIM', stream, group, ARGV[3], 0, entry, 'JUSTID')
      stay = stay + 1
    else
      redis.call('XACK', stream, group, entry)
      redis.call('XDEL', stream, entry)
    end
  end
end
return stay
