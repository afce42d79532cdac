-- Starts an attempt of a task for the worker that holds its queue entry, and gives it a fencing token.
-- A task is refused when it has ended, waits for its retry, or is held by another worker through
-- another queue entry that is still in that queue's pending list. Who holds this very entry may always
-- start: the queue gave it to him because the one before did not renew his lease. A task of a paused
-- subscription is set aside instead: its queue entry moves to where paused ones wait.
-- KEYS[1] task (HASH)  KEYS[2] event row (HASH)  KEYS[3] notifications (STREAM)  KEYS[4] queue (STREAM)
-- KEYS[5] paused (HASH)  KEYS[6] held (STREAM)  KEYS[7] holding (SET)
-- ARGV[1] queue entry ('' when the queue is no stream)  ARGV[2] worker  ARGV[3] group of the queue
-- ARGV[4] notifications kept  ARGV[5] lease, ms (for queues that are no streams)
-- ARGV[6] source  ARGV[7] event id  ARGV[8] event type  ARGV[9] subject  ARGV[10] service  ARGV[11] task id
-- ARGV[12] body of the notification up to the attempt, ARGV[13] after it  ARGV[14] task name
-- Returns {'run', attempt, times it was lost by a worker} | {'ended', state} | {'held'} | {'expired'} | {'gone'}
--   | {'cancelled'} (wanted so while a worker ran it that is gone: to be ended) | {'paused'} (was set aside).
--#include _time.lua
--#include _notify.lua
--#include _hold.lua
local row = redis.call('HMGET', KEYS[1], 'state', 'entry', 'lease', 'expires', 'workflow', 'lost', 'attempt', 'cancel', 'drained')
local state, entry, lease, now = row[1], row[2], tonumber(row[3] or '0') or 0, now_ms()
local lost, attempt = tonumber(row[6] or '0'), tonumber(row[7] or '0')
if not state then return { 'gone' } end
if state == 'retrying' or state == 'held' then return { 'held' } end
if state ~= 'queued' and state ~= 'started' then return { 'ended', state } end
if state == 'started' then
  if row[5] then return { 'held' } end
  if ARGV[1] == '' then
    if lease > now then return { 'held' } end
  elseif entry ~= ARGV[1] and entry and #redis.call('XPENDING', KEYS[4], ARGV[3], entry, entry, 1) > 0 then
    return { 'held' }
  end
  if row[8] then return { 'cancelled' } end
  if row[9] then redis.call('HDEL', KEYS[1], 'drained') else lost = lost + 1 end
elseif row[4] and tonumber(row[4]) < now then
  return { 'expired' }
end
local note = { stream = KEYS[3], kept = ARGV[4], row = KEYS[2], source = ARGV[6], type = 'task.started', event = ARGV[7],
  task = ARGV[11], service = ARGV[10], event_type = ARGV[8], subject = ARGV[9] }
if ARGV[1] ~= '' and redis.call('HEXISTS', KEYS[5], ARGV[14]) == 1 then
  if hold({ row = KEYS[1], queue = KEYS[4], held = KEYS[6], holding = KEYS[7], name = ARGV[14], task = ARGV[11],
    group = ARGV[3], entry = ARGV[1], lost = lost }) then
    note.type, note.body = 'task.held', ARGV[12] .. attempt .. ARGV[13]
    tell_of_event(note)
    return { 'paused' }
  end
end
attempt = attempt + 1
redis.call('HSET', KEYS[1], 'state', 'started', 'started', digits(now), 'worker', ARGV[2], 'entry', ARGV[1],
  'lease', digits(now + tonumber(ARGV[5])), 'attempt', attempt, 'lost', lost)
note.body = ARGV[12] .. attempt .. ARGV[13]
tell_of_event(note)
return { 'run', attempt, lost }
