#!lua flags=allow-oom
-- Cancels a task. What has not begun ends here and never starts; what a workflow has become ends here too, and
-- its later parts do not run; for what runs, the wish is noted in its row and its worker is told.
-- KEYS[1] task (HASH)  KEYS[2] event row (HASH)  KEYS[3] notifications (STREAM)  KEYS[4] queue (STREAM)
-- KEYS[5] ended tasks (STREAM)  KEYS[6] open tasks (ZSET)  KEYS[7] due (ZSET)  KEYS[8] due_entries (HASH)
-- KEYS[9] held (STREAM)
-- ARGV[1] group of the queue  ARGV[2] outcome (JSON)  ARGV[3] lifetime of the ended row, ms  ARGV[4] retention, ms
-- ARGV[5] notifications kept  ARGV[6] body of the notification up to the attempt, ARGV[7] after it
-- ARGV[8] source  ARGV[9] event id  ARGV[10] event type  ARGV[11] subject  ARGV[12] service  ARGV[13] task id
-- ARGV[14] event fragment  ARGV[15] task name  ARGV[16] channel of the service's workers
-- Returns {'cancelled'} | {'asked'} (its worker is told) | {'ended', state} | {'gone'}.
--#include _time.lua
--#include _notify.lua
--#include _end.lua
local row = redis.call('HMGET', KEYS[1], 'state', 'entry', 'workflow', 'held', 'attempt', 'queued', 'started', 'h')
local state, now = row[1], now_ms()
if not state then return { 'gone' } end
if ENDED[state] then return { 'ended', state } end
if state == 'started' then
  redis.call('PUBLISH', ARGV[16], ARGV[13])
  if not row[3] then
    redis.call('HSET', KEYS[1], 'cancel', digits(now))
    return { 'asked' }
  end
elseif state == 'retrying' then
  local member = 'task:' .. ARGV[13]
  redis.call('ZREM', KEYS[7], member)
  redis.call('HDEL', KEYS[8], member, 'h ' .. member, 'b ' .. member, 'u ' .. member)
elseif state == 'held' then
  if row[4] then redis.call('XDEL', KEYS[9], row[4]) end
elseif row[2] and row[2] ~= '' then
  redis.call('XACK', KEYS[4], ARGV[1], row[2])
  redis.call('XDEL', KEYS[4], row[2])
end
if row[8] then redis.call('HDEL', KEYS[1], 'h', 'b') end
redis.call('ZREM', KEYS[6], ARGV[13])
end_task({ notes = KEYS[3], kept = ARGV[5], ended = KEYS[5], stamp = digits(now), since = digits(now - tonumber(ARGV[4])) }, {
  row = KEYS[1], event_row = KEYS[2], keep = ARGV[3], was = state, state = 'cancelled', outcome = ARGV[2], attempt = row[5],
  queued = row[6], started = row[7], id = ARGV[13], name = ARGV[15], service = ARGV[12], source = ARGV[8],
  event = ARGV[9], event_type = ARGV[10], subject = ARGV[11], fragment = ARGV[14],
  body = ARGV[6] .. (row[5] or '0') .. ARGV[7] })
return { 'cancelled' }
