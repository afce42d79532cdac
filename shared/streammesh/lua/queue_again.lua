#!lua flags=allow-oom
-- Queues a task again whose queue entry has vanished: the queue was deleted by hand, say. Looks again whether
-- that is so: of several janitors, and of a janitor and a worker, one acts. What is wanted cancelled is not queued.
-- KEYS task_row (HASH), queue (STREAM), due (ZSET), held (STREAM), event_row (HASH), notifications (STREAM)
-- ARGS task, state, place (these two as they were seen), h, b, kept (notifications), body (of the notification),
--   source, event, event_type, subject, service
-- Returns 1 if this call queued it, 0 if not.
--#include _notify.lua
--#include _entry.lua
--#include _flow.lua
local row = redis.call('HMGET', task_row, 'state', 'entry', 'held', 'workflow', 'cancel', 'flow', 'run')
if state ~= row[1] or row[5] then return 0 end
if place ~= '' and place ~= (state == 'held' and row[3] or row[2]) then return 0 end
if state == 'pending' then
  if is_in_line(task_row, row[6], task) then return 0 end
elseif not lies_nowhere({ state = state, entry = row[2], workflow = row[4], held = row[3], task = task, queue = queue,
  due = due, aside = held, run = row[7] }) then return 0 end
flow_again(task_row, row[6], task, queue, { 'h', h, 'b', b, 'n', 0 })
redis.call('HSET', task_row, 'due', '', 'held', '')
tell_of_event({ stream = notifications, kept = kept, row = event_row, source = source, type = 'task.queued', event = event,
  task = task, service = service, event_type = event_type, subject = subject, body = body })
return 1
