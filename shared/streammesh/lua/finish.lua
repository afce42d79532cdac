-- Ends a task: outcome, follow-up events, dead letter, notification and the queue entry's
-- acknowledgement, all in one step; refused when the token is no longer the current one. A repeat of
-- a call that was made (lost reply) answers as the first one did and changes nothing. A subscription
-- whose deliveries become dead letters too often in a row is paused in the same step.
-- KEYS[1] task (HASH)  KEYS[2] event row (HASH)  KEYS[3] notifications (STREAM)  KEYS[4] queue (STREAM)
-- KEYS[5] ended tasks (STREAM)  KEYS[6] open tasks (ZSET)  KEYS[7] dead (HASH)  KEYS[8] dead index (ZSET)
-- KEYS[9] dead entries (HASH)  KEYS[10] dead services (SET)  KEYS[11] failures in a row (HASH)
-- KEYS[12] paused (HASH)  KEYS[13] domains (SET)  KEYS[14] due (ZSET)  KEYS[15] due_entries (HASH)
-- KEYS[16] counters (HASH)
-- then per follow-up event: its row (HASH), its stream (STREAM)
-- ARGV[1] token: the attempt, of this queue entry where there is one; '@' whoever holds this queue entry;
--   '*' whoever holds the task
-- ARGV[2] state  ARGV[3] result or error (JSON)
-- ARGV[4] lifetime of the ended row, ms  ARGV[5] queue entry ('' for none)  ARGV[6] group of the queue
-- ARGV[7] notifications kept  ARGV[8] type of the notification  ARGV[9] its body
-- ARGV[10] source  ARGV[11] event id  ARGV[12] event type  ARGV[13] subject  ARGV[14] service  ARGV[15] task id
-- ARGV[16] event fragment  ARGV[17] dead letter (JSON, '' for none)  ARGV[18] dead letters kept
-- ARGV[19] task name  ARGV[20] retention, ms  ARGV[21] channel for changes
-- ARGV[22] envelope, kept with a dead letter whose queue entry is gone  ARGV[23] failures in a row that pause (0: never)
-- then per follow-up event: source, id, digest, domain, deliver_at, envelope
-- Returns {'done'} | {'lost'} | {'ended', state} | {'cancelled'} (it failed, and is wanted cancelled).
--#include _time.lua
--#include _event.lua
--#include _notify.lua
--#include _fields.lua
--#include _dead.lua
--#include _end.lua
local row = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'queued', 'started', 'entry', 'cancel')
local state, attempt, now, name, entry = row[1], row[2], now_ms(), ARGV[19], ARGV[5]
if not state then return { 'lost' } end
if ENDED[state] then
  if state == ARGV[2] and attempt == ARGV[1] then return { 'done' } end
  return { 'ended', state }
end
if ARGV[1] == '@' then
  if row[5] ~= entry then return { 'lost' } end
elseif ARGV[1] ~= '*' and (attempt ~= ARGV[1] or state ~= 'started' or (entry ~= '' and row[5] ~= entry)) then
  return { 'lost' }
end
if row[6] and ARGV[2] == 'failed' then return { 'cancelled' } end
local retention = tonumber(ARGV[20])
if #KEYS > 16 then
  local c = { domains = KEYS[13], due = KEYS[14], due_entries = KEYS[15], changed = ARGV[21], now = now, retention = retention }
  for i = 1, (#KEYS - 16) / 2 do
    local a, frow = 23 + 6 * (i - 1), KEYS[15 + 2 * i]
    if redis.call('HEXISTS', frow, 'at:' .. ARGV[a + 1]) == 0 then
      store_event({ row = frow, stream = KEYS[16 + 2 * i], source = ARGV[a + 1], id = ARGV[a + 2],
        digest = ARGV[a + 3], domain = ARGV[a + 4], deliver_at = ARGV[a + 5], json = ARGV[a + 6] }, c)
      redis.call('HINCRBY', KEYS[16], 'published', 1)
    end
  end
end
if ARGV[17] ~= '' then
  local kept = redis.call('HMGET', KEYS[1], 'h', 'b', 'meta')  -- h and b of a workflow, whose queue entry is gone
  local parts = { m = kept[3] or nil }
  if entry ~= '' then parts.h, parts.b = queued_fields(KEYS[4], entry) end
  if not parts.h and kept[1] then parts.h, parts.b = kept[1], kept[2] end
  if not parts.h then parts.e = ARGV[22] end
  park({ dead = KEYS[7], index = KEYS[8], entries = KEYS[9], services = KEYS[10], service = ARGV[14], kept = ARGV[18], now = now, id = ARGV[15],
    letter = ARGV[17], parts = parts })
end
if entry ~= '' then
  redis.call('XACK', KEYS[4], ARGV[6], entry)
  redis.call('XDEL', KEYS[4], entry)
end
if row[6] or entry == '' then redis.call('HDEL', KEYS[1], 'cancel', 'h', 'b') end
end_task({ row = KEYS[1], event_row = KEYS[2], notes = KEYS[3], kept = ARGV[7], ended = KEYS[5], open = KEYS[6],
  now = now, retention = retention, keep = ARGV[4], state = ARGV[2], outcome = ARGV[3], attempt = attempt,
  queued = row[3], started = row[4], id = ARGV[15], name = name, service = ARGV[14], source = ARGV[10],
  event = ARGV[11], event_type = ARGV[12], subject = ARGV[13], fragment = ARGV[16], type = ARGV[8], body = ARGV[9] })
if ARGV[2] == 'succeeded' then
  redis.call('HDEL', KEYS[11], name)
elseif ARGV[17] ~= '' and ARGV[23] ~= '0' then
  local failures = redis.call('HINCRBY', KEYS[11], name, 1)
  if failures >= tonumber(ARGV[23]) then
    local why = { since = now, failures = failures, reason = cjson.decode(ARGV[3]).error.reason }
    if redis.call('HSETNX', KEYS[12], name, cjson.encode(why)) == 1 then
      tell({ stream = KEYS[3], kept = ARGV[7], type = 'subscription.paused', event = '', task = '', service = ARGV[14],
        event_type = ARGV[12], subject = '', body = '"event":null,"task":null,"data":{"subscription":'
          .. cjson.encode(name) .. ',"failures":' .. failures .. ',"reason":' .. cjson.encode(why.reason) .. '}' })
      redis.call('PUBLISH', ARGV[21], 'paused')
    end
  end
end
return { 'done' }
