#!lua flags=allow-oom
-- Tells how far a delivery is. Refused when the token is no longer the current one. The fraction never goes back:
-- whoever comes with a smaller one (a part of a workflow that ended out of turn, a new attempt) tells the largest.
-- KEYS[1] task (HASH)  KEYS[2] event row (HASH)  KEYS[3] notifications (STREAM)
-- ARGV[1] token  ARGV[2] fraction  ARGV[3] notifications kept  ARGV[4] body up to its data
-- ARGV[5] source  ARGV[6] event id  ARGV[7] event type  ARGV[8] subject  ARGV[9] service  ARGV[10] task id
-- ARGV[11] text (JSON)
-- Returns {'done'} | {'lost'}.
--#include _notify.lua
local row = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'progress')
if row[1] ~= 'started' or row[2] ~= ARGV[1] then return { 'lost' } end
local fraction = ARGV[2]
local before = row[3] and string.match(row[3], '^{"progress":([%d.eE+-]+),')
if before and (tonumber(before) or 0) > tonumber(fraction) then fraction = before end
local data = '{"progress":' .. fraction .. ',"text":' .. ARGV[11] .. '}'
redis.call('HSET', KEYS[1], 'progress', data)
tell_of_event({ stream = KEYS[3], kept = ARGV[3], row = KEYS[2], source = ARGV[5], type = 'task.progress', event = ARGV[6],
  task = ARGV[10], service = ARGV[9], event_type = ARGV[7], subject = ARGV[8], body = ARGV[4] .. data })
return { 'done' }
