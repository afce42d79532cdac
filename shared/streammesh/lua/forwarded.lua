#!lua flags=allow-oom
-- Notes that entries were sent to another broker, which has confirmed them. The entry of a delivery stays in the
-- queue until its task has ended: it is what the worker holds, and what is sent again when it is lost there. Any
-- other task is the broker's from now on. An entry that is no longer this forwarder's (a worker has begun it) is
-- left alone.
-- KEYS stream (STREAM, the queue)
-- ARGS group, me (the consumer), sent (owner of what was sent)
-- entries: KEYS task (HASH, of any task) ARGS id
-- Returns how many stay.
local stay = 0
for _, entry in ipairs(entries) do
  if #redis.call('XPENDING', stream, group, entry.id, entry.id, 1, me) > 0 then
    if redis.call('EXISTS', entry.task) == 1 then
      redis.call('XCLAIM', stream, group, sent, 0, entry.id, 'JUSTID')
      stay = stay + 1
    else
      redis.call('XACK', stream, group, entry.id)
      redis.call('XDEL', stream, entry.id)
    end
  end
end
return stay
