-- Ends a task: outcome, follow-up events, dead letter, notification and the queue entry's
-- acknowledgement, all in one step; refused when the token is no longer the current one. A repeat of
-- a call that was made (lost reply) answers as the first one did and changes nothing.
-- KEYS[1] task (HASH)  KEYS[2] event row (HASH)  KEYS[3] notifications (STREAM)  KEYS[4] queue (STREAM)
-- KEYS[5] ended tasks (STREAM)  KEYS[6] dead (HASH)  KEYS[7] dead index (ZSET)  KEYS[8] domains (SET)
-- KEYS[9] due (ZSET)  KEYS[10] due_entries (HASH)  KEYS[11] counters (HASH)
-- then per follow-up event: its row (HASH), its stream (STREAM)
-- ARGV[1] token (attempt; '*' ends it whoever holds it)  ARGV[2] state  ARGV[3] result or error (JSON)
-- ARGV[4] lifetime of the ended row, ms  ARGV[5] queue entry ('' for none)  ARGV[6] group of the queue
-- ARGV[7] notifications kept  ARGV[8] type of the notification  ARGV[9] its body
-- ARGV[10] source  ARGV[11] event id  ARGV[12] event type  ARGV[13] subject  ARGV[14] service  ARGV[15] task id
-- ARGV[16] event fragment  ARGV[17] dead letter (JSON, '' for none)  ARGV[18] dead letters kept
-- ARGV[19] task name  ARGV[20] retention, ms  ARGV[21] channel for changes
-- then per follow-up event: source, id, digest, domain, deliver_at, envelope
-- Returns {'done'} | {'lost'} | {'ended', state}.
--#include _time.lua
--#include _event.lua
--#include _notify.lua
local row = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'queued', 'started')
local state, attempt, now = row[1], row[2], now_ms()
if not state then return { 'lost' } end
if state ~= 'queued' and state ~= 'started' and state ~= 'retrying' then
  if state == ARGV[2] and attempt == ARGV[1] then return { 'done' } end
  return { 'ended', state }
end
if ARGV[1] ~= '*' and (attempt ~= ARGV[1] or state ~= 'started') then return { 'lost' } end
local c = { domains = KEYS[8], due = KEYS[9], due_entries = KEYS[10], changed = ARGV[21], now = now, retention = tonumber(ARGV[20]) }
for i = 1, (#KEYS - 11) / 2 do
  local a, frow = 21 + 6 * (i - 1), KEYS[10 + 2 * i]
  if redis.call('HEXISTS', frow, 'at:' .. ARGV[a + 1]) == 0 then
    store_event({ row = frow, stream = KEYS[11 + 2 * i], source = ARGV[a + 1], id = ARGV[a + 2],
      digest = ARGV[a + 3], domain = ARGV[a + 4], deliver_at = ARGV[a + 5], json = ARGV[a + 6] }, c)
    redis.call('HINCRBY', KEYS[11], 'published', 1)
  end
end
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'ended', digits(now), 'outcome', ARGV[3],
  'lease', '', 'due', '')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
if ARGV[5] ~= '' then
  redis.call('XACK', KEYS[4], ARGV[6], ARGV[5])
  redis.call('XDEL', KEYS[4], ARGV[5])
end
if ARGV[17] ~= '' then
  redis.call('HSET', KEYS[6], ARGV[15], ARGV[17])
  redis.call('ZADD', KEYS[7], digits(now), ARGV[15])
  local over = redis.call('ZCARD', KEYS[7]) - tonumber(ARGV[18])
  if over > 0 then
    local popped = redis.call('ZPOPMIN', KEYS[7], over)
    for i = 1, #popped, 2 do redis.call('HDEL', KEYS[6], popped[i]) end
  end
end
redis.call('XADD', KEYS[5], 'MINID', '~', digits(now - c.retention), '*', 's', ARGV[2], 'n', ARGV[19], 'v', ARGV[14],
  'a', attempt or '0', 'q', row[3] or '', 'r', row[4] or '', 'k', ARGV[15], 'y', ARGV[12])
local note = { stream = KEYS[3], kept = ARGV[7], type = ARGV[8], event = ARGV[11],
  task = ARGV[15], service = ARGV[14], event_type = ARGV[12], subject = ARGV[13], body = ARGV[9] }
local id, source = tell(note), ARGV[10]
local event = redis.call('HMGET', KEYS[2], 'at:' .. source, 'notes:' .. source, 'want:' .. source, 'done:' .. source, 'failed:' .. source)
if event[1] then
  local notes, done, failed = noted(event[2], id), tonumber(event[4] or '0') + 1, tonumber(event[5] or '0')
  if ARGV[2] ~= 'succeeded' then failed = failed + 1 end
  if event[3] == tostring(done) then
    note.type, note.task, note.service = 'event.completed', '', ''
    note.body = ARGV[16] .. ',"data":{"tasks":' .. done .. ',"failed":' .. failed .. '}'
    notes = noted(notes, tell(note))
  end
  redis.call('HSET', KEYS[2], 'notes:' .. source, notes, 'done:' .. source, done, 'failed:' .. source, failed)
end
return { 'done' }
