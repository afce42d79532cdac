#!lua flags=allow-oom
-- Ends some tasks of one subscription, for whatever cause: outcome, follow-up events, dead letter, notification, the
-- end of the event, and whatever stands for the task (queue entry, place in the due set, place among those set aside,
-- place of its flow, which is given on) is freed; all in one step. Every task is decided about on its own. What is wanted cancelled ends as cancelled where
-- it would fail. A repeat of a call that was made (lost reply) answers as the first one did and changes nothing.
-- A subscription whose deliveries become dead letters too often in a row is paused in the same step.
-- KEYS notifications (STREAM), queue (STREAM), recent (STREAM, of ended tasks), open_tasks (ZSET), dead (HASH),
--   dead_index (ZSET), dead_entries (HASH), dead_services (SET), failures (HASH, in a row), paused (HASH), domains (SET),
--   due (ZSET), due_entries (HASH), counters (HASH), held (STREAM), cancellable (ZSET, of tasks that an event may cancel)
-- ARGS group, kept (notifications), service, name (of the task), keep (lifetime of ended rows, ms),
--   retention (lifetime of an event's row, ms), letters_kept (dead letters), changed (channel),
--   pausing (failures in a row that pause, 0: never),
--   rest (body of the notification between the task's id and the attempt), cancelled (outcome of what was cancelled, JSON),
--   control (channel of the service's workers)
-- tasks: KEYS row (HASH), event_row (HASH)
--   ARGS token (the attempt, of this queue entry where there is one; '@' whoever holds this queue entry; '*' whoever
--   holds the task; '!' nobody, if what stands for it lies nowhere; '+<run> <its attempt> <its entry>' that run, which took it along in its batch; '?' nobody, and of whoever runs it that is wished;
--   '=' nobody, if it stands in line and never started),
--   state, outcome (result or error, JSON), entry (of the queue, '' for none), source, event, event_type, subject, id,
--   fragment (the event's part of the notification), id_json, letter (dead letter, JSON, '' for none),
--   envelope (with a letter: kept where the queue entry is gone)
-- tasks.follow_ups: KEYS row (HASH), stream (STREAM), sets (SET each, of identities) ARGS source, id, digest, domain,
--   deliver_at (ms or ''), name, content (these two of its identity), json (the envelope)
-- Returns per task 'done <state>' | 'conflict <state>' (done; an event with the identity of a follow-up and other content
-- is there) | 'asked' (its worker was told) | 'lost' (held by another) | 'ended <state>' (it had ended otherwise)
-- | 'gone' (there is no such task). Of a batch nobody is folded ('lost') where the one that succeeded before it in the call did not end so.
--#include _time.lua
--#include _event.lua
--#include _notify.lua
--#include _entry.lua
--#include _dead.lua
--#include _flow.lua
--#include _chunks.lua
--#include _states.lua
local now = now_ms()
local stamp, since = digits(now), digits(now - retention)
local stores = { domains = domains, due = due, due_entries = due_entries, changed = changed, now = now, retention = retention }
local entries, ids, left, succeeded = {}, {}, {}, false

local function store_all(follow_ups)
  local conflict = false
  for _, event in ipairs(follow_ups) do
    local known = is_stored(event)
    conflict = conflict or known == 'conflict'
    if not known then
      if store_event(event, stores) ~= 'sent' then write('HINCRBY', counters, 'published', 1) end
    end
  end
  return conflict
end

-- t = {row (key), id, was, entry, held, member}
local function bury(t, letter, envelope)
  local h, b
  if t.was == 'retrying' or t.was == 'waiting' then h, b = due_fields(due_entries, t.member)
  elseif t.was == 'held' then h, b = queued_fields(held, t.held)
  elseif t.entry ~= '' then h, b = queued_fields(queue, t.entry) end
  local row = redis.call('HMGET', t.row, 'h', 'b', 'meta')  -- h and b of a workflow, whose queue entry is gone
  local parts = { h = h or row[1] or nil, b = b or row[2] or nil, m = row[3] or nil, f = t.flow or nil,
    c = t.cancellable or nil }
  if not parts.h then parts.e = envelope end
  park({ dead = dead, index = dead_index, entries = dead_entries, services = dead_services, service = service, kept = letters_kept,
    now = now, id = t.id, letter = letter, parts = parts })
end

local function free(t, entry)
  if entry ~= '' then entries[#entries + 1] = entry end
  if t.was == 'retrying' or t.was == 'waiting' then
    redis.pcall('ZREM', due, t.member)
    redis.pcall('HDEL', due_entries, t.member, 'h ' .. t.member, 'b ' .. t.member, 'u ' .. t.member)
  elseif t.was == 'held' then
    redis.pcall('XDEL', held, t.held)
  elseif not t.workflow and t.entry ~= entry and string.match(t.entry, '^%d+%-%d+$') then
    entries[#entries + 1] = t.entry
  end
end

-- Whether the run that a token names holds its queue entry still, and took a task along.
local function is_of_batch(task, token, run)
  local leader, number, entry = string.match(token, '^%+(%S+) (%d+) (%S*)$')
  if not leader or leader ~= run then return false end
  local row = redis.call('HMGET', string.match(task, '^(.-}:)') .. 'task:' .. leader, 'state', 'attempt', 'entry')
  return row[1] == 'started' and row[2] == number and (entry == '' or row[3] == entry)
end

local function forget_failures()
  if succeeded then write('HDEL', failures, name) end
  succeeded = false
end

local function count_failure(outcome, event_type)
  forget_failures()
  local number = write('HINCRBY', failures, name, 1)
  if number < pausing then return end
  local why = { since = now, failures = number, reason = cjson.decode(outcome).error.reason }
  if write('HSETNX', paused, name, cjson.encode(why)) == 0 then return end
  tell({ stream = notifications, kept = kept, type = 'subscription.paused', event = '', task = '', service = service,
    event_type = event_type, subject = '', body = '"event":null,"task":null,"data":{"subscription":'
      .. cjson.encode(name) .. ',"failures":' .. number .. ',"reason":' .. cjson.encode(why.reason) .. '}' })
  redis.call('PUBLISH', changed, 'paused')
end

-- Tells what became of a task, and the end of its event when it was the last one.
local function tell_end(event_row, source, note, fragment, state)
  local id = tell(note)
  local event = redis.pcall('HMGET', event_row, 'at:' .. source, 'notes:' .. source, 'want:' .. source,
    'done:' .. source, 'failed:' .. source)
  if event.err or not event[1] then return end
  local told, done, failed = noted(event[2], id), tonumber(event[4] or '0') + 1, tonumber(event[5] or '0')
  if state ~= 'succeeded' and state ~= 'folded' then failed = failed + 1 end
  if event[3] == tostring(done) then
    note.type, note.task, note.service = 'event.completed', '', ''
    note.body = fragment .. ',"data":{"tasks":' .. done .. ',"failed":' .. failed .. '}'
    told = noted(told, tell(note))
  end
  redis.call('HSET', event_row, 'notes:' .. source, told, 'done:' .. source, done, 'failed:' .. source, failed)
end

local function settle(one)
  local task, token, state, outcome, entry, id = one.row, one.token, one.state, one.outcome, one.entry, one.id
  local row = redis.call('HMGET', task, 'state', 'attempt', 'queued', 'started', 'entry', 'cancel', 'workflow', 'held', 'streams',
    'flow', 'cancellable', 'cancelled_by', 'run', 'batch')
  local was, attempt, letter = row[1], row[2], one.letter
  if not was then return 'gone' end
  if ENDED[was] then
    if attempt ~= token or was ~= state and not (was == 'cancelled' and state == 'failed') then return 'ended ' .. was end
    if entry ~= '' then entries[#entries + 1] = entry end
    return 'done ' .. was
  end
  local t = { row = task, id = id, was = was, entry = row[5] or '', workflow = row[7], held = row[8] or '', member = 'task:' .. id,
    flow = row[10], cancellable = row[11] }
  if token == '@' then
    if row[5] ~= entry then return 'lost' end
  elseif token == '!' then
    if was == 'pending' then
      if is_in_line(task, row[10], id) then return 'lost' end
    elseif not lies_nowhere({ state = was, entry = t.entry, workflow = t.workflow, held = t.held, task = id, queue = queue,
      due = due, aside = held, run = row[13] }) then return 'lost' end
  elseif token == '?' then
    if was == 'started' then redis.call('PUBLISH', control, id) end
    if was == 'started' and not t.workflow then
      redis.call('HSET', task, 'cancel', stamp)
      if outcome ~= cancelled then redis.call('HSET', task, 'cancelled_by', outcome) end  -- by which event it is to end
      return 'asked'
    end
  elseif token == '=' then
    if was ~= 'pending' then return 'lost' end
  elseif string.byte(token) == 43 then
    if was ~= 'queued' or not is_of_batch(task, token, row[13]) then return 'lost' end
    attempt = (tonumber(attempt) or 0) + 1
    redis.call('HSET', task, 'attempt', attempt)
  elseif token ~= '*' and (attempt ~= token or was ~= 'started' or (entry ~= '' and row[5] ~= entry)) then
    return 'lost'
  end
  if row[6] and state == 'failed' then state, outcome, letter = 'cancelled', cancelled, '' end
  if state == 'cancelled' and row[12] then outcome = row[12] end
  if t.cancellable then
    for member in string.gmatch(t.cancellable, '[^\n]+') do write('ZREM', cancellable, member) end
  end
  local conflict = store_all(one.follow_ups)
  if letter ~= '' then bury(t, letter, one.envelope) end
  if row[6] or t.workflow or was == 'pending' then redis.call('HDEL', task, 'cancel', 'cancelled_by', 'h', 'b', 'to', 'u') end
  if row[13] then redis.call('HDEL', task, 'run', 'h', 'b', 'to', 'u') end
  free(t, entry)
  if t.flow then left[#left + 1] = { task, t.flow, id, state, row[14] } end
  ids[#ids + 1] = id
  redis.call('HSET', task, 'state', state, 'ended', stamp, 'outcome', outcome)
  if was ~= 'started' then redis.call('HDEL', task, 'due') end
  redis.call('PEXPIRE', task, keep)
  if row[9] then end_chunks(task, row[9], keep, id) end
  local event_type, fragment = one.event_type, one.fragment
  write('XADD', recent, 'MINID', '~', since, '*', 's', state, 'n', name, 'v', service, 'a', attempt or '0',
    'q', row[3] or '', 'r', row[4] or '', 'k', id, 'y', event_type)
  tell_end(one.event_row, one.source, { stream = notifications, kept = kept, type = 'task.' .. state, event = one.event, task = id,
    service = service, event_type = event_type, subject = one.subject,
    body = fragment .. ',"task":{"id":' .. one.id_json .. rest .. (attempt or '0') .. '},"data":' .. outcome },
    fragment, state)
  if state == 'succeeded' then
    succeeded = true
  elseif letter ~= '' and pausing > 0 then
    count_failure(outcome, event_type)
  end
  return (conflict and 'conflict ' or 'done ') .. state
end

local answers, refused = {}, {}  -- tokens of runs whose first that succeeded had ended otherwise: in that one nobody is folded
for i, one in ipairs(tasks) do
  answers[i] = one.state == 'folded' and refused[one.token] and 'lost' or settle(one)
  refused[one.token] = one.state == 'succeeded' and not string.find(answers[i], 'succeeded$') or refused[one.token]
end
if #entries > 0 then pcall(gone, queue, group, entries) end  -- where something else lies, nothing of ours does
if #ids > 0 then
  write('ZREM', open_tasks, unpack(ids))
  if string.find(name, '.wake_', 1, true) then write('ZREM', string.gsub(open_tasks, '}:open:', '}:waking:', 1), unpack(ids)) end
end
for _, one in ipairs(left) do  -- after all have ended: none of them is started once more
  local flow, key, rank = flow_of(one[1], one[2])
  if flow then
    if one[4] == 'folded' then write('HINCRBY', flow.key, 'folded', 1) end
    if one[5] then scatter(flow, one[1], one[3], one[4] == 'failed') end
    flow_leave(flow, key, rank, one[3])
  end
end
forget_failures()
return answers
