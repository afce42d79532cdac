#!lua flags=allow-oom
-- Queues one task that was set aside while its subscription was paused. Its removal from where it waited is
-- the gate: of several dispatchers one queues it. One that has ended meanwhile is only removed; one whose record was
-- lost is queued all the same: whoever claims it parks it, with a reason.
-- KEYS held (STREAM), holding (SET), paused (HASH), queue (STREAM), task_row (HASH), event_row (HASH),
--   notifications (STREAM)
-- ARGS name (of the subscription's task), position ('' only to look whether all are gone), kept (notifications),
--   body (of the notification), source, event, event_type, subject, service, task
-- Returns 1 if this call queued it, 0 if not.
--#include _notify.lua
if redis.call('HEXISTS', paused, name) == 1 then return 0 end
local queued = 0
local found = position ~= '' and redis.call('XRANGE', held, position, position) or {}
if #found == 1 then
  redis.call('XDEL', held, position)
  local row = redis.call('HMGET', task_row, 'state', 'held')
  if not row[1] or row[1] == 'held' and row[2] == position then
    local fields, copy = found[1][2], {}
    for i = 1, #fields, 2 do
      if fields[i] ~= 'k' then copy[#copy + 1], copy[#copy + 2] = fields[i], fields[i + 1] end
    end
    local place = redis.call('XADD', queue, '*', unpack(copy))
    if row[1] then
      redis.call('HSET', task_row, 'state', 'queued', 'entry', place, 'held', '')
      tell_of_event({ stream = notifications, kept = kept, row = event_row, source = source, type = 'task.queued',
        event = event, task = task, service = service, event_type = event_type, subject = subject, body = body })
    end
    queued = 1
  end
end
if redis.call('XLEN', held) == 0 then
  redis.call('DEL', held)
  redis.call('SREM', holding, name)
end
return queued
