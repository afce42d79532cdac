#!lua flags=allow-oom
-- Tells how far a delivery is. Refused when the token is no longer the current one. The fraction never goes back:
-- whoever comes with a smaller one (a part of a workflow that ended out of turn, a new attempt) tells the largest.
-- KEYS task_row (HASH), event_row (HASH), notifications (STREAM)
-- ARGS token, fraction, kept (notifications), body (of the notification up to its data),
--   source, event, event_type, subject, service, task, text (JSON)
-- Returns {'done'} | {'lost'}.
--#include _notify.lua
local row = redis.call('HMGET', task_row, 'state', 'attempt', 'progress')
if row[1] ~= 'started' or row[2] ~= token then return { 'lost' } end
local before = row[3] and string.match(row[3], '^{"progress":([%d.eE+-]+),')
if before and (tonumber(before) or 0) > tonumber(fraction) then fraction = before end
local data = '{"progress":' .. fraction .. ',"text":' .. text .. '}'
redis.call('HSET', task_row, 'progress', data)
tell_of_event({ stream = notifications, kept = kept, row = event_row, source = source, type = 'task.progress', event = event,
  task = task, service = service, event_type = event_type, subject = subject, body = body .. data })
return { 'done' }
