#!lua flags=allow-oom
-- A handler answered with a workflow: queues its first tasks and ends the handler's own queue entry in
-- one step. The delivery stays `started` until the workflow ends it, and keeps its queue entry's fields,
-- for a replay. Refused when the token is not the current one.
-- KEYS task_row (HASH), queue (STREAM, of the delivery)
-- ARGS token, entry (of the queue), group, workflow (its name), lifetime (of the row, ms, should the workflow never end)
-- messages: KEYS queue (STREAM) ARGS h, b
-- Returns {'done'} | {'lost'} | {'cancelled'} (it is wanted cancelled: to be ended instead).
--#include _entry.lua
local row = redis.call('HMGET', task_row, 'state', 'attempt', 'workflow', 'entry', 'cancel')
if row[2] ~= token or row[1] ~= 'started' then return { 'lost' } end
if row[3] then return { row[3] == workflow and 'done' or 'lost' } end
if entry ~= '' and row[4] ~= entry then return { 'lost' } end
if row[5] then return { 'cancelled' } end
for _, message in ipairs(messages) do
  redis.call('XADD', message.queue, '*', 'h', message.h, 'b', message.b)
end
redis.call('HSET', task_row, 'workflow', workflow)
redis.call('HDEL', task_row, 'lease')
redis.call('PEXPIRE', task_row, lifetime)
if entry ~= '' then
  local h, b = queued_fields(queue, entry)
  if h then redis.call('HSET', task_row, 'h', h, 'b', b) end
  redis.call('XACK', queue, group, entry)
  redis.call('XDEL', queue, entry)
end
return { 'done' }
