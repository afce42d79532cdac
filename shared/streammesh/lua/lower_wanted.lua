#!lua flags=allow-oom
-- Counts anew how many deliveries an event has, when a service that it was for is taken away before it was handed
-- over to it: those that were handed over, and those that are wanted still. It may end the event.
-- KEYS[1] event row (HASH)  KEYS[2] notifications (STREAM)  KEYS[3] version of the manifests (STRING)
-- ARGV[1] version by which the rest is planned  ARGV[2] notifications kept  ARGV[3] source  ARGV[4] event id
-- ARGV[5] event type  ARGV[6] subject  ARGV[7] event fragment, then ids of the tasks that are wanted still
-- Returns 'stale' (the manifests have changed, nothing was done) | 'same' | 'lowered' | 'ended'.
--#include _notify.lua
if (redis.call('GET', KEYS[3]) or '') ~= ARGV[1] then return 'stale' end
local source = ARGV[3]
local row = redis.call('HMGET', KEYS[1], 'want:' .. source, 'done:' .. source, 'failed:' .. source, 'notes:' .. source)
if not row[1] then return 'same' end -- whoever hands it over next counts without the service
local wanted, count = {}, #ARGV - 7
for i = 8, #ARGV do wanted['task:' .. ARGV[i]] = true end
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if string.sub(all[i], 1, 5) == 'task:' and all[i + 1] == source and not wanted[all[i]] then count = count + 1 end
end
if count >= tonumber(row[1]) then return 'same' end
local done, failed = tonumber(row[2] or '0'), tonumber(row[3] or '0')
redis.call('HSET', KEYS[1], 'want:' .. source, count)
if done < count then return 'lowered' end
local note = { stream = KEYS[2], kept = ARGV[2], type = 'event.completed', event = ARGV[4], task = '', service = '',
  event_type = ARGV[5], subject = ARGV[6] }
if count == 0 then
  note.type, note.body = 'event.unrouted', ARGV[7] .. ',"data":{"reason":"no subscription wants it any more"}'
else
  note.body = ARGV[7] .. ',"data":{"tasks":' .. done .. ',"failed":' .. failed .. '}'
end
redis.call('HSET', KEYS[1], 'notes:' .. source, noted(row[4], tell(note)))
return 'ended'
