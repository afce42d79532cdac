#!lua flags=allow-oom
-- Counts anew how many deliveries an event has, when a service that it was for is taken away before it was handed
-- over to it: those that were handed over, and those that are wanted still. It may end the event.
-- KEYS event_row (HASH), notifications (STREAM), version (STRING, of the manifests)
-- ARGS planned_by (version by which the rest is planned), kept (notifications), source, event, event_type, subject,
--   fragment (JSON, the event's part of a notification), task_ids (of the tasks that are wanted still)
-- Returns 'stale' (the manifests have changed, nothing was done) | 'same' | 'lowered' | 'ended'.
--#include _notify.lua
if (redis.call('GET', version) or '') ~= planned_by then return 'stale' end
local row = redis.call('HMGET', event_row, 'want:' .. source, 'done:' .. source, 'failed:' .. source, 'notes:' .. source)
if not row[1] then return 'same' end -- whoever hands it over next counts without the service
local wanted, count = {}, #task_ids
for _, id in ipairs(task_ids) do wanted['task:' .. id] = true end
local all = redis.call('HGETALL', event_row)
for i = 1, #all, 2 do
  if string.sub(all[i], 1, 5) == 'task:' and all[i + 1] == source and not wanted[all[i]] then count = count + 1 end
end
if count >= tonumber(row[1]) then return 'same' end
local done, failed = tonumber(row[2] or '0'), tonumber(row[3] or '0')
redis.call('HSET', event_row, 'want:' .. source, count)
if done < count then return 'lowered' end
local note = { stream = notifications, kept = kept, type = 'event.completed', event = event, task = '', service = '',
  event_type = event_type, subject = subject }
if count == 0 then
  note.type, note.body = 'event.unrouted', fragment .. ',"data":{"reason":"no subscription wants it any more"}'
else
  note.body = fragment .. ',"data":{"tasks":' .. done .. ',"failed":' .. failed .. '}'
end
redis.call('HSET', event_row, 'notes:' .. source, noted(row[4], tell(note)))
return 'ended'
