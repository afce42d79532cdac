#!lua flags=allow-oom
-- Ends some tasks of one subscription, for whatever cause: outcome, follow-up events, dead letter, notification, the
-- end of the event, and whatever stands for the task (queue entry, place in the due set, place among those set aside)
-- is freed; all in one step. Every task is decided about on its own. What is wanted cancelled ends as cancelled where
-- it would fail. A repeat of a call that was made (lost reply) answers as the first one did and changes nothing.
-- A subscription whose deliveries become dead letters too often in a row is paused in the same step.
-- KEYS[1] notifications (STREAM)  KEYS[2] queue (STREAM)  KEYS[3] ended tasks (STREAM)  KEYS[4] open tasks (ZSET)
-- KEYS[5] dead (HASH)  KEYS[6] dead index (ZSET)  KEYS[7] dead entries (HASH)  KEYS[8] dead services (SET)
-- KEYS[9] failures in a row (HASH)  KEYS[10] paused (HASH)  KEYS[11] domains (SET)  KEYS[12] due (ZSET)
-- KEYS[13] due_entries (HASH)  KEYS[14] counters (HASH)  KEYS[15] held (STREAM)
-- then per task: task (HASH), event row (HASH), and per follow-up event: its row (HASH), its stream (STREAM)
-- ARGV[1] group of the queue  ARGV[2] notifications kept  ARGV[3] service  ARGV[4] task name
-- ARGV[5] lifetime of ended rows, ms  ARGV[6] lifetime of an event's row, ms  ARGV[7] dead letters kept
-- ARGV[8] channel for changes  ARGV[9] failures in a row that pause (0: never)
-- ARGV[10] body of the notification between the task's id and the attempt  ARGV[11] outcome of what was cancelled (JSON)
-- ARGV[12] channel of the service's workers
-- then per task:
--   token: the attempt, of this queue entry where there is one; '@' whoever holds this queue entry; '*' whoever
--   holds the task; '!' nobody, if what stands for it lies nowhere; '?' nobody, and of whoever runs it that is wished;
--   state, result or error (JSON), queue entry ('' for none), source, event id, event type,
--   subject, task id, event fragment, the task's id as JSON,
--   dead letter (JSON, '' for none); with one: the envelope, kept where the queue entry is gone;
--   number of follow-up events; per one: source, id, digest, domain, deliver_at, envelope
-- Returns per task 'done <state>' | 'conflict <state>' (done; an event with the identity of a follow-up and other content
-- is there) | 'asked' (its worker was told) | 'lost' (held by another) | 'ended <state>' (it had ended otherwise)
-- | 'gone' (there is no such task).
--#include _time.lua
--#include _event.lua
--#include _notify.lua
--#include _entry.lua
--#include _dead.lua
local ENDED = { succeeded = true, failed = true, cancelled = true, expired = true }
local notes, kept, queue, group, service, name, now = KEYS[1], ARGV[2], KEYS[2], ARGV[1], ARGV[3], ARGV[4], now_ms()
local retention, pausing = tonumber(ARGV[6]), tonumber(ARGV[9])
local stamp, since = digits(now), digits(now - retention)
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

-- The fields h and b of a task that waits in the due set.
local function due_fields(member)
  local lies = redis.pcall('HMGET', KEYS[13], member, 'h ' .. member, 'b ' .. member)
  if lies.err then return nil, nil end
  if lies[2] then return lies[2], lies[3] or nil end
  local read, about = pcall(cjson.decode, lies[1] or '')
  if not read or type(about) ~= 'table' or type(about.h) ~= 'string' or about.h == '' then return nil, nil end
  return about.h, about.b
end

-- t = {row (key), id, was, entry, held, member}
local function bury(t, letter, envelope)
  local h, b
  if t.was == 'retrying' then h, b = due_fields(t.member)
  elseif t.was == 'held' then h, b = queued_fields(KEYS[15], t.held)
  elseif t.entry ~= '' then h, b = queued_fields(queue, t.entry) end
  local row = redis.call('HMGET', t.row, 'h', 'b', 'meta')  -- h and b of a workflow, whose queue entry is gone
  local parts = { h = h or row[1] or nil, b = b or row[2] or nil, m = row[3] or nil }
  if not parts.h then parts.e = envelope end
  park({ dead = KEYS[5], index = KEYS[6], entries = KEYS[7], services = KEYS[8], service = service, kept = ARGV[7],
    now = now, id = t.id, letter = letter, parts = parts })
end

local function free(t, entry)
  if entry ~= '' then entries[#entries + 1] = entry end
  if t.was == 'retrying' then
    redis.pcall('ZREM', KEYS[12], t.member)
    redis.pcall('HDEL', KEYS[13], t.member, 'h ' .. t.member, 'b ' .. t.member, 'u ' .. t.member)
  elseif t.was == 'held' then
    redis.pcall('XDEL', KEYS[15], t.held)
  elseif not t.workflow and t.entry ~= entry and string.match(t.entry, '^%d+%-%d+$') then
    entries[#entries + 1] = t.entry
  end
end

local function forget_failures()
  if succeeded then write('HDEL', KEYS[9], name) end
  succeeded = false
end

local function count_failure(outcome, event_type)
  forget_failures()
  local failures = write('HINCRBY', KEYS[9], name, 1)
  if failures < pausing then return end
  local why = { since = now, failures = failures, reason = cjson.decode(outcome).error.reason }
  if write('HSETNX', KEYS[10], name, cjson.encode(why)) == 0 then return end
  tell({ stream = notes, kept = kept, type = 'subscription.paused', event = '', task = '', service = service,
    event_type = event_type, subject = '', body = '"event":null,"task":null,"data":{"subscription":'
      .. cjson.encode(name) .. ',"failures":' .. failures .. ',"reason":' .. cjson.encode(why.reason) .. '}' })
  redis.call('PUBLISH', ARGV[8], 'paused')
end

-- Tells what became of a task, and the end of its event when it was the last one.
local function tell_end(event_row, source, note, fragment, state)
  local id = tell(note)
  local event = redis.pcall('HMGET', event_row, 'at:' .. source, 'notes:' .. source, 'want:' .. source,
    'done:' .. source, 'failed:' .. source)
  if event.err or not event[1] then return end
  local told, done, failed = noted(event[2], id), tonumber(event[4] or '0') + 1, tonumber(event[5] or '0')
  if state ~= 'succeeded' then failed = failed + 1 end
  if event[3] == tostring(done) then
    note.type, note.task, note.service = 'event.completed', '', ''
    note.body = fragment .. ',"data":{"tasks":' .. done .. ',"failed":' .. failed .. '}'
    told = noted(told, tell(note))
  end
  redis.call('HSET', event_row, 'notes:' .. source, told, 'done:' .. source, done, 'failed:' .. source, failed)
end

-- `k` and `a`: where its keys and arguments begin; `f`: where its follow-up events' arguments begin.
local function settle(k, a, f, count)
  local task, token, state, outcome, entry, id = KEYS[k], ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 8]
  local row = redis.call('HMGET', task, 'state', 'attempt', 'queued', 'started', 'entry', 'cancel', 'workflow', 'held')
  local was, attempt, letter = row[1], row[2], ARGV[a + 11]
  if not was then return 'gone' end
  if ENDED[was] then
    if attempt ~= token or was ~= state and not (was == 'cancelled' and state == 'failed') then return 'ended ' .. was end
    if entry ~= '' then entries[#entries + 1] = entry end
    return 'done ' .. was
  end
  local t = { row = task, id = id, was = was, entry = row[5] or '', workflow = row[7], held = row[8] or '', member = 'task:' .. id }
  if token == '@' then
    if row[5] ~= entry then return 'lost' end
  elseif token == '!' then
    if not lies_nowhere({ state = was, entry = t.entry, workflow = t.workflow, held = t.held, task = id, queue = queue,
      due = KEYS[12], aside = KEYS[15] }) then return 'lost' end
  elseif token == '?' then
    if was == 'started' then redis.call('PUBLISH', ARGV[12], id) end
    if was == 'started' and not t.workflow then
      redis.call('HSET', task, 'cancel', stamp)
      return 'asked'
    end
  elseif token ~= '*' and (attempt ~= token or was ~= 'started' or (entry ~= '' and row[5] ~= entry)) then
    return 'lost'
  end
  if row[6] and state == 'failed' then state, outcome, letter = 'cancelled', ARGV[11], '' end
  local conflict = store_follow_ups(k + 2, f, count)
  if letter ~= '' then bury(t, letter, ARGV[a + 12]) end
  if row[6] or t.workflow then redis.call('HDEL', task, 'cancel', 'h', 'b') end
  free(t, entry)
  ids[#ids + 1] = id
  redis.call('HSET', task, 'state', state, 'ended', stamp, 'outcome', outcome)
  if was ~= 'started' then redis.call('HDEL', task, 'due') end
  redis.call('PEXPIRE', task, ARGV[5])
  local event_type, fragment = ARGV[a + 6], ARGV[a + 9]
  write('XADD', KEYS[3], 'MINID', '~', since, '*', 's', state, 'n', name, 'v', service, 'a', attempt or '0',
    'q', row[3] or '', 'r', row[4] or '', 'k', id, 'y', event_type)
  tell_end(KEYS[k + 1], ARGV[a + 4], { stream = notes, kept = kept, type = 'task.' .. state, event = ARGV[a + 5], task = id,
    service = service, event_type = event_type, subject = ARGV[a + 7],
    body = fragment .. ',"task":{"id":' .. ARGV[a + 10] .. ARGV[10] .. (attempt or '0') .. '},"data":' .. outcome },
    fragment, state)
  if state == 'succeeded' then
    succeeded = true
  elseif letter ~= '' and pausing > 0 then
    count_failure(outcome, event_type)
  end
  return (conflict and 'conflict ' or 'done ') .. state
end

local answers, k, a = {}, 16, 13
while k <= #KEYS do
  local f = ARGV[a + 11] == '' and a + 13 or a + 14
  local count = tonumber(ARGV[f - 1])
  answers[#answers + 1] = settle(k, a, f, count)
  k, a = k + 2 + 2 * count, f + 6 * count
end
if #entries > 0 then pcall(gone, queue, group, entries) end  -- where something else lies, nothing of ours does
if #ids > 0 then write('ZREM', KEYS[4], unpack(ids)) end
forget_failures()
return answers
