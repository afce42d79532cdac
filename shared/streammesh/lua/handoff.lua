#!lua flags=allow-oom
-- Hands a batch of one stream's entries over to a service's queue, each exactly once: XACK is the gate.
-- An entry whose XACK does not answer 1 was handed over before (by a call whose reply was lost, by
-- another dispatcher, before a SIGKILL) and is skipped. A task that has a ledger row already is not
-- queued again either, nor is one that the event's row knows: a group made anew from an old position
-- does no harm.
-- KEYS stream (STREAM, of events), notifications (STREAM), counters (HASH), open_tasks (ZSET), holding (SET),
--   version (STRING, of the manifests), memory_row (STRING)
-- ARGS group, kept (notifications), planned_by (version the batch was planned by, '*': any),
--   event_prefix, task_prefix (length of what stands before the id in the key of an event's row, of a task's row),
--   mark (percent of maxmemory)
-- subscriptions: KEYS queue (STREAM, or while it is paused the stream where its tasks wait)
--   ARGS name (of the task), service, state ('queued' or 'held'), meta (its part of a task row's meta, JSON),
--   rest (what stands in a notification after the task's id, JSON), parts (of h, between which the task id stands)
-- kinds: ARGS source, event_type, want (deliveries in all services, '' if not known), meta (its part, JSON),
--   subscriptions (their numbers, ' 1 2')
-- entries: KEYS row (HASH, of the event) ARGS kind (its number), position, subject,
--   fragment (event for notifications, JSON), correlation (JSON)
-- entries.deliveries: KEYS task (HASH) ARGS expires (ms or ''), b (of the queue entry)
-- Returns {handed over, skipped, length of the longest stream of a queue that it put into, most tasks that wait for one paused subscription}; -1 for
-- what was not touched. {'stale'} and nothing done: the manifests have changed since the batch was planned.
-- {'full'} and nothing done: something would be queued, and the mark is reached.
--#include _time.lua
--#include _memory.lua
--#include _notify.lua
if planned_by ~= '*' and (redis.call('GET', version) or '') ~= planned_by then return { 'stale' } end
if #subscriptions > 0 then
  local used, most = memory(memory_row, now_ms())
  if used * 100 > most * mark then return { 'full' } end
end
local now, event_id, task_id = digits(now_ms()), event_prefix + 1, task_prefix + 1
-- A script is not rolled back: what could fail fails here, or for an entry before it is acknowledged.
local function wrong_type(key, should)
  local is = redis.call('TYPE', key).ok
  return is ~= 'none' and is ~= should and redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. is)
end
for _, one in ipairs(subscriptions) do
  local wrong = wrong_type(one.queue, 'stream')
  if wrong then return wrong end
  one.note = { stream = notifications, kept = kept, type = 'task.' .. one.state, service = one.service }
end
for _, kind in ipairs(kinds) do
  local mine, source = {}, kind.source
  for number in string.gmatch(kind.subscriptions, '%d+') do mine[#mine + 1] = subscriptions[tonumber(number)] end
  kind.wants, kind.at, kind.notes, kind.wanted = mine, 'at:' .. source, 'notes:' .. source, 'want:' .. source
end
local wrong = wrong_type(counters, 'hash') or wrong_type(open_tasks, 'zset') or wrong_type(holding, 'set')
if wrong then return wrong end
local tasks = {}
for _, entry in ipairs(entries) do
  for _, delivery in ipairs(entry.deliveries) do tasks[#tasks + 1] = delivery.task end
end
-- Most batches are all new, and one question tells; `made` knows what this call adds to the answer.
local any, made = false, {}
for i = 1, #tasks, 1000 do
  any = any or redis.call('EXISTS', unpack(tasks, i, math.min(i + 999, #tasks))) > 0
end
for _, task in ipairs(any and tasks or {}) do redis.call('HLEN', task) end
local handed, skipped, opened, queues_used, held_used, broken = 0, 0, {}, {}, {}, nil
for _, one in ipairs(entries) do
  local row, kind, subject, fragment, deliveries = one.row, kinds[one.kind], one.subject, one.fragment, one.deliveries
  local event, source, want = string.sub(row, event_id), kind.source, kind.want
  local known = redis.pcall('HMGET', row, kind.at, kind.notes, kind.wanted,
    'task:' .. (deliveries[1] and string.sub(deliveries[1].task, task_id) or ''))
  if known.err then  -- nothing was done yet for this entry; what was for those before it is kept
    broken = known.err
    break
  end
  local mine = redis.call('XACK', stream, group, one.position) == 1
  if not mine then skipped = skipped + 1 end
  local notes, changes = known[2], {}
  -- A subscription that came since another service's lane said how many want it raises the number.
  if mine and known[1] and want ~= '' and (tonumber(known[3]) or -1) < tonumber(want) then
    changes = { kind.wanted, want }
    if want == '0' then
      write('HINCRBY', counters, 'unrouted', 1)
      notes = noted(notes, tell({ stream = notifications, kept = kept, type = 'event.unrouted', event = event, task = '',
        service = '', event_type = kind.event_type, subject = subject,
        body = fragment .. ',"data":{"reason":"no subscription wants it"}' }))
    end
  end
  for d, wanting in ipairs(kind.wants) do
    local task, expires, b = deliveries[d].task, deliveries[d].expires, deliveries[d].b
    local id, state, queue = string.sub(task, task_id), wanting.state, wanting.queue
    if state == 'queued' then queues_used[queue] = true else held_used[queue] = true end
    local is_known = d == 1 and known[4] or d > 1 and redis.call('HEXISTS', row, 'task:' .. id) == 1
    if mine and not is_known and not made[task] and not (any and redis.call('EXISTS', task) == 1) then
      local meta = '{' .. string.sub(fragment, 1, -2) .. ',"entry":"' .. one.position .. '","correlation":' .. one.correlation
        .. kind.meta .. wanting.meta
      local h, place = table.concat(wanting.parts, id)
      if state == 'queued' then
        place = redis.call('XADD', queue, '*', 'h', h, 'b', b)
        redis.call('HSET', task, 'state', state, 'attempt', 0, 'queued', now, 'meta', meta, 'entry', place)
      else
        place = redis.call('XADD', queue, '*', 'k', id, 'h', h, 'b', b)
        redis.call('SADD', holding, wanting.name)
        redis.call('HSET', task, 'state', state, 'attempt', 0, 'queued', now, 'meta', meta, 'held', place)
      end
      if expires ~= '' then redis.call('HSET', task, 'expires', expires) end
      local note = wanting.note
      note.event, note.task, note.event_type, note.subject = event, id, kind.event_type, subject
      note.body = fragment .. ',"task":{"id":"' .. id .. wanting.rest
      notes = noted(notes, tell(note))
      changes[#changes + 1], changes[#changes + 2] = 'task:' .. id, source
      opened[#opened + 1], opened[#opened + 2] = now, id
      made[task] = true
      handed = handed + 1
    end
  end
  if known[1] and #changes > 0 then redis.call('HSET', row, kind.notes, notes or '', unpack(changes)) end
end
for i = 1, #opened, 1000 do redis.call('ZADD', open_tasks, unpack(opened, i, math.min(i + 999, #opened))) end
if handed > 0 then write('HINCRBY', counters, 'handed_over', handed) end
if broken then return redis.error_reply(broken) end
local queued, held = -1, -1
for key in pairs(queues_used) do queued = math.max(queued, redis.call('XLEN', key)) end
for key in pairs(held_used) do held = math.max(held, redis.call('XLEN', key)) end
return { handed, skipped, queued, held }
