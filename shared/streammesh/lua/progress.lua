-- Tells how far a running attempt is. Refused when the token is no longer the current one.
-- KEYS[1] task (HASH)  KEYS[2] event row (HASH)  KEYS[3] notifications (STREAM)
-- ARGV[1] token  ARGV[2] progress (JSON)  ARGV[3] notifications kept  ARGV[4] body
-- ARGV[5] source  ARGV[6] event id  ARGV[7] event type  ARGV[8] subject  ARGV[9] service  ARGV[10] task id
-- Returns {'done'} | {'lost'}.
--#include _notify.lua
local row = redis.call('HMGET', KEYS[1], 'state', 'attempt')
if row[1] ~= 'started' or row[2] ~= ARGV[1] then return { 'lost' } end
redis.call('HSET', KEYS[1], 'progress', ARGV[2])
tell_of_event({ stream = KEYS[3], kept = ARGV[3], row = KEYS[2], source = ARGV[5], type = 'task.progress', event = ARGV[6],
  task = ARGV[10], service = ARGV[9], event_type = ARGV[7], subject = ARGV[8], body = ARGV[4] })
return { 'done' }
