#!lua flags=allow-oom
-- Ends an attempt that failed and sets the task's next one: its queue entry moves into the due set.
-- Nothing waits in a worker. Refused when the token is no longer the current one.
-- With `unfit` it did not fail: this edition cannot read the payload, and another that lives may.
-- KEYS task_row (HASH), event_row (HASH), notifications (STREAM), queue (STREAM), due (ZSET), due_entries (HASH)
-- ARGS token, wait (ms), failure (JSON), entry (of the queue), group, kept (notifications), body (of the notification),
--   source, event, event_type, subject, service, task, changed (channel),
--   unfit (digests of the schemas that its payload does not fit, '' where it failed)
-- Returns {'done', due (ms)} | {'lost'} (also where its queue entry has vanished: it is queued again from its event)
--   | {'cancelled'} (it is wanted cancelled: to be ended instead).
--#include _time.lua
--#include _notify.lua
--#include _entry.lua
--#include _flow.lua
local row = redis.call('HMGET', task_row, 'state', 'attempt', 'due', 'entry', 'cancel', 'flow')
if not row[1] or row[2] ~= token then return { 'lost' } end
if row[1] == 'retrying' then return { 'done', row[3] } end
if row[1] ~= 'started' or (entry ~= '' and row[4] ~= entry) then return { 'lost' } end
if row[5] then return { 'cancelled' } end
if entry == '' then return redis.error_reply('NOENTRY no queue entry stands for this task') end
local h, b = queued_fields(queue, entry)
if not h then return { 'lost' } end
local due_at, member = digits(now_ms() + wait), 'task:' .. task
redis.call('HSET', task_row, 'state', 'retrying', 'due', due_at, 'outcome', failure, 'entry', '')
if unfit ~= '' then
  redis.call('HSET', task_row, 'unfit', unfit)
  write('HINCRBY', task_row, 'waits', 1)
end
redis.call('HDEL', task_row, 'lease')
write('ZADD', due, due_at, member)
write('HSET', due_entries, member, cjson.encode({ kind = 'task', task = task, queue = queue, h = h, b = b }))
if redis.call('ZRANGE', due, 0, 0)[1] == member then redis.call('PUBLISH', changed, 'due') end
redis.call('XACK', queue, group, entry)
redis.call('XDEL', queue, entry)
let_go(task_row, row[6], task)
tell_of_event({ stream = notifications, kept = kept, row = event_row, source = source, type = 'task.retrying', event = event,
  task = task, service = service, event_type = event_type, subject = subject, body = body })
return { 'done', due_at }
