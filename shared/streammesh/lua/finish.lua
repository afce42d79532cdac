#!lua flags=allow-oom
-- Ends some tasks of one subscription: outcome, follow-up events, dead letter, notification and the queue entry's
-- acknowledgement, all in one step. Every task is decided about on its own: refused when its token is no longer
-- the current one. A repeat of a call that was made (lost reply) answers as the first one did and changes nothing.
-- A subscription whose deliveries become dead letters too often in a row is paused in the same step.
-- KEYS[1] notifications (STREAM)  KEYS[2] queue (STREAM)  KEYS[3] ended tasks (STREAM)  KEYS[4] open tasks (ZSET)
-- KEYS[5] dead (HASH)  KEYS[6] dead index (ZSET)  KEYS[7] dead entries (HASH)  KEYS[8] dead services (SET)
-- KEYS[9] failures in a row (HASH)  KEYS[10] paused (HASH)  KEYS[11] domains (SET)  KEYS[12] due (ZSET)
-- KEYS[13] due_entries (HASH)  KEYS[14] counters (HASH)
-- then per task: task (HASH), event row (HASH), and per follow-up event: its row (HASH), its stream (STREAM)
-- ARGV[1] group of the queue  ARGV[2] notifications kept  ARGV[3] service  ARGV[4] task name
-- ARGV[5] lifetime of ended rows, ms  ARGV[6] lifetime of an event's row, ms  ARGV[7] dead letters kept
-- ARGV[8] channel for changes  ARGV[9] failures in a row that pause (0: never)
-- ARGV[10] body of the notification between the task's id and the attempt
-- then per task:
--   token: the attempt, of this queue entry where there is one; '@' whoever holds this queue entry; '*' whoever
--   holds the task; state, result or error (JSON), queue entry ('' for none), source, event id, event type,
--   subject, task id, event fragment, the task's id as JSON,
--   dead letter (JSON, '' for none); with one: the envelope, kept where the queue entry is gone;
--   number of follow-up events; per one: source, id, digest, domain, deliver_at, envelope
-- Returns per task 'done' | 'conflict' (done; an event with the identity of a follow-up and other content is there) |
-- 'lost' | 'ended' (otherwise) | 'cancelled' (it failed, and is wanted cancelled).
--#include _time.lua
--#include _event.lua
--#include _notify.lua
--#include _fields.lua
--#include _dead.lua
--#include _gone.lua
--#include _end.lua
local queue, group, service, name, now = KEYS[2], ARGV[1], ARGV[3], ARGV[4], now_ms()
local retention, pausing = tonumber(ARGV[6]), tonumber(ARGV[9])
local shared = { notes = KEYS[1], kept = ARGV[2], ended = KEYS[3], stamp = digits(now), since = digits(now - retention) }
local stores = { domains = KEYS[11], due = KEYS[12], due_entries = KEYS[13], changed = ARGV[8], now = now, retention = retention }
local entries, ids, succeeded = {}, {}, false

local function store_follow_ups(k, a, count)
  local conflict = false
  for i = 1, count do
    local row, at = KEYS[k + 2 * i - 2], a + 6 * (i - 1)
    local known = is_stored(row, ARGV[at], ARGV[at + 2])
    conflict = conflict or known == 'conflict'
    if not known then
      store_event({ row = row, stream = KEYS[k + 2 * i - 1], source = ARGV[at], id = ARGV[at + 1], digest = ARGV[at + 2],
        domain = ARGV[at + 3], deliver_at = ARGV[at + 4], json = ARGV[at + 5] }, stores)
      write('HINCRBY', KEYS[14], 'published', 1)
    end
  end
  return conflict
end

local function bury(task, id, entry, letter, envelope)
  local kept = redis.call('HMGET', task, 'h', 'b', 'meta')  -- h and b of a workflow, whose queue entry is gone
  local parts = { m = kept[3] or nil }
  if entry ~= '' then parts.h, parts.b = queued_fields(queue, entry) end
  if not parts.h and kept[1] then parts.h, parts.b = kept[1], kept[2] end
  if not parts.h then parts.e = envelope end
  park({ dead = KEYS[5], index = KEYS[6], entries = KEYS[7], services = KEYS[8], service = service, kept = ARGV[7],
    now = now, id = id, letter = letter, parts = parts })
end

local function forget_failures()
  if succeeded then redis.call('HDEL', KEYS[9], name) end
  succeeded = false
end

local function count_failure(outcome, event_type)
  forget_failures()
  local failures = write('HINCRBY', KEYS[9], name, 1)
  if failures < pausing then return end
  local why = { since = now, failures = failures, reason = cjson.decode(outcome).error.reason }
  if write('HSETNX', KEYS[10], name, cjson.encode(why)) == 0 then return end
  tell({ stream = KEYS[1], kept = ARGV[2], type = 'subscription.paused', event = '', task = '', service = service,
    event_type = event_type, subject = '', body = '"event":null,"task":null,"data":{"subscription":'
      .. cjson.encode(name) .. ',"failures":' .. failures .. ',"reason":' .. cjson.encode(why.reason) .. '}' })
  redis.call('PUBLISH', ARGV[8], 'paused')
end

-- `k` and `a`: where its keys and arguments begin; `f`: where its follow-up events' arguments begin.
local function finish(k, a, f, count)
  local task, token, state, outcome, entry, id = KEYS[k], ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 8]
  local row = redis.call('HMGET', task, 'state', 'attempt', 'queued', 'started', 'entry', 'cancel')
  local was, attempt = row[1], row[2]
  if not was then return 'lost' end
  if ENDED[was] then
    if was ~= state or attempt ~= token then return 'ended' end
    if entry ~= '' then entries[#entries + 1] = entry end
    return 'done'
  end
  if token == '@' then
    if row[5] ~= entry then return 'lost' end
  elseif token ~= '*' and (attempt ~= token or was ~= 'started' or (entry ~= '' and row[5] ~= entry)) then
    return 'lost'
  end
  if row[6] and state == 'failed' then return 'cancelled' end
  local conflict = store_follow_ups(k + 2, f, count)
  local letter = ARGV[a + 11]
  if letter ~= '' then bury(task, id, entry, letter, ARGV[a + 12]) end
  if row[6] or entry == '' then redis.call('HDEL', task, 'cancel', 'h', 'b') end
  if entry ~= '' then entries[#entries + 1] = entry end
  ids[#ids + 1] = id
  local fragment, shown = ARGV[a + 9], tonumber(token) and token or '0'
  end_task(shared, { row = task, event_row = KEYS[k + 1], keep = ARGV[5], was = was, state = state, outcome = outcome, attempt = attempt,
    queued = row[3], started = row[4], id = id, name = name, service = service, source = ARGV[a + 4], event = ARGV[a + 5],
    event_type = ARGV[a + 6], subject = ARGV[a + 7], fragment = fragment,
    body = fragment .. ',"task":{"id":' .. ARGV[a + 10] .. ARGV[10] .. shown .. '},"data":' .. outcome })
  if state == 'succeeded' then
    succeeded = true
  elseif letter ~= '' and pausing > 0 then
    count_failure(outcome, ARGV[a + 6])
  end
  return conflict and 'conflict' or 'done'
end

local answers, k, a = {}, 15, 11
while k <= #KEYS do
  local f = ARGV[a + 11] == '' and a + 13 or a + 14
  local count = tonumber(ARGV[f - 1])
  answers[#answers + 1] = finish(k, a, f, count)
  k, a = k + 2 + 2 * count, f + 6 * count
end
if #entries > 0 then gone(queue, group, entries) end
if #ids > 0 then redis.call('ZREM', KEYS[4], unpack(ids)) end
forget_failures()
return answers
