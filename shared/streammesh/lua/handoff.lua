#!lua flags=allow-oom
-- Hands a batch of one stream's entries over to a service's queue, each exactly once: XACK is the gate.
-- An entry whose XACK does not answer 1 was handed over before (by a call whose reply was lost, by
-- another dispatcher, before a SIGKILL) and is skipped. A task that has a ledger row already is not
-- queued again either, nor is one that the event's row knows: a group made anew from an old position
-- does no harm.
-- KEYS[1] events (STREAM)  KEYS[2] notifications (STREAM)  KEYS[3] counters (HASH)  KEYS[4] open tasks (ZSET)
-- KEYS[5] holding (SET)  KEYS[6] version of the manifests (STRING)  KEYS[7] memory (STRING)
-- then per subscription: its queue (STREAM) or, while it is paused, the stream where its tasks wait (STREAM);
-- per entry: the event's row (HASH); per delivery: the task's row (HASH)
-- ARGV[1] group  ARGV[2] notifications kept  ARGV[3] version the batch was planned by ('*': any)
-- ARGV[4..6] how many subscriptions, kinds of event, entries  ARGV[7..8] length of what stands before the id in
--   the key of an event's row, of a task's row  ARGV[9] mark: percent of maxmemory
-- then per subscription: task name, service, 'queued' or 'held', its part of a task row's meta (JSON), what stands
--   in a notification after the task's id (JSON), how many parts h has, the parts of h between which the task id stands
-- per kind: source, event type, wanted deliveries in all services ('' if not known), its part of meta (JSON), the
--   numbers of its subscriptions, ' 1 2'
-- per entry: kind, position, subject, event for notifications (JSON), correlation (JSON); per delivery: expires
--   (ms or ''), b (of the queue entry)
-- Returns {handed over, skipped, length of the longest stream of a queue that it put into, most tasks that wait for one paused subscription}; -1 for
-- what was not touched. {'stale'} and nothing done: the manifests have changed since the batch was planned.
-- {'full'} and nothing done: something would be queued, and the mark is reached.
--#include _time.lua
--#include _memory.lua
--#include _notify.lua
if ARGV[3] ~= '*' and (redis.call('GET', KEYS[6]) or '') ~= ARGV[3] then return { 'stale' } end
if tonumber(ARGV[4]) > 0 then
  local used, most = memory(KEYS[7], now_ms())
  if used * 100 > most * tonumber(ARGV[9]) then return { 'full' } end
end
local stream, group, now = KEYS[1], ARGV[1], digits(now_ms())
local subscriptions, kinds, n = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local event_id, task_id = tonumber(ARGV[7]) + 1, tonumber(ARGV[8]) + 1
local wants, kind_of, a = {}, {}, 10
-- A script is not rolled back: what could fail fails here, or for an entry before it is acknowledged.
for i = 1, subscriptions do
  local queue, state = KEYS[7 + i], ARGV[a + 2]
  local is = redis.call('TYPE', queue).ok
  if is ~= 'none' and is ~= 'stream' then return redis.error_reply('WRONGTYPE ' .. queue .. ' is a ' .. is) end
  wants[tostring(i)] = { queue = queue, name = ARGV[a], state = state, meta = ARGV[a + 3], rest = ARGV[a + 4],
    note = { stream = KEYS[2], kept = ARGV[2], type = 'task.' .. state, service = ARGV[a + 1] } }
  wants[tostring(i)].h = { unpack(ARGV, a + 6, a + 5 + ARGV[a + 5]) }
  a = a + 6 + ARGV[a + 5]
end
for i = 1, kinds do
  local source, mine = ARGV[a], {}
  for number in string.gmatch(ARGV[a + 4], '%d+') do mine[#mine + 1] = wants[number] end
  kind_of[tostring(i)] = { source = source, type = ARGV[a + 1], want = ARGV[a + 2], meta = ARGV[a + 3], wants = mine,
    at = 'at:' .. source, notes = 'notes:' .. source, wanted = 'want:' .. source }
  a = a + 5
end
for i = 3, 5 do
  local should, is = i == 3 and 'hash' or i == 4 and 'zset' or 'set', redis.call('TYPE', KEYS[i]).ok
  if is ~= 'none' and is ~= should then return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' is a ' .. is) end
end
local rows, tasks = 7 + subscriptions, 7 + subscriptions + n
-- Most batches are all new, and one question tells; `made` knows what this call adds to the answer.
local any, made = false, {}
for i = tasks + 1, #KEYS, 1000 do
  any = any or redis.call('EXISTS', unpack(KEYS, i, math.min(i + 999, #KEYS))) > 0
end
for i = any and tasks + 1 or #KEYS + 1, #KEYS do redis.call('HLEN', KEYS[i]) end
local handed, skipped, opened, queues_used, held_used, broken = 0, 0, {}, {}, {}, nil
for i = 1, n do
  local row, kind, entry, subject, fragment, correlation =
    KEYS[rows + i], kind_of[ARGV[a]], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4]
  local event, source, want, first_task = string.sub(row, event_id), kind.source, kind.want, KEYS[tasks + 1]
  a = a + 5
  local known = redis.pcall('HMGET', row, kind.at, kind.notes, kind.wanted,
    'task:' .. (kind.wants[1] and string.sub(first_task, task_id) or ''))
  if known.err then  -- nothing was done yet for this entry; what was for those before it is kept
    broken = known.err
    break
  end
  local mine = redis.call('XACK', stream, group, entry) == 1
  if not mine then skipped = skipped + 1 end
  local notes, changes = known[2], {}
  -- A subscription that came since another service's lane said how many want it raises the number.
  if mine and known[1] and want ~= '' and (tonumber(known[3]) or -1) < tonumber(want) then
    changes = { kind.wanted, want }
    if want == '0' then
      write('HINCRBY', KEYS[3], 'unrouted', 1)
      notes = noted(notes, tell({ stream = KEYS[2], kept = ARGV[2], type = 'event.unrouted', event = event, task = '',
        service = '', event_type = kind.type, subject = subject,
        body = fragment .. ',"data":{"reason":"no subscription wants it"}' }))
    end
  end
  for d = 1, #kind.wants do
    local wanting, task, expires, b = kind.wants[d], KEYS[tasks + d], ARGV[a], ARGV[a + 1]
    local id, state, queue = string.sub(task, task_id), wanting.state, wanting.queue
    a = a + 2
    if state == 'queued' then queues_used[queue] = true else held_used[queue] = true end
    local is_known = d == 1 and known[4] or d > 1 and redis.call('HEXISTS', row, 'task:' .. id) == 1
    if mine and not is_known and not made[task] and not (any and redis.call('EXISTS', task) == 1) then
      local meta = '{' .. string.sub(fragment, 1, -2) .. ',"entry":"' .. entry .. '","correlation":' .. correlation
        .. kind.meta .. wanting.meta
      local h, place = table.concat(wanting.h, id)
      if state == 'queued' then
        place = redis.call('XADD', queue, '*', 'h', h, 'b', b)
        redis.call('HSET', task, 'state', state, 'attempt', 0, 'queued', now, 'meta', meta, 'entry', place)
      else
        place = redis.call('XADD', queue, '*', 'k', id, 'h', h, 'b', b)
        redis.call('SADD', KEYS[5], wanting.name)
        redis.call('HSET', task, 'state', state, 'attempt', 0, 'queued', now, 'meta', meta, 'held', place)
      end
      if expires ~= '' then redis.call('HSET', task, 'expires', expires) end
      local note = wanting.note
      note.event, note.task, note.event_type, note.subject = event, id, kind.type, subject
      note.body = fragment .. ',"task":{"id":"' .. id .. wanting.rest
      notes = noted(notes, tell(note))
      changes[#changes + 1], changes[#changes + 2] = 'task:' .. id, source
      opened[#opened + 1], opened[#opened + 2] = now, id
      made[task] = true
      handed = handed + 1
    end
  end
  tasks = tasks + #kind.wants
  if known[1] and #changes > 0 then redis.call('HSET', row, kind.notes, notes or '', unpack(changes)) end
end
for i = 1, #opened, 1000 do redis.call('ZADD', KEYS[4], unpack(opened, i, math.min(i + 999, #opened))) end
if handed > 0 then write('HINCRBY', KEYS[3], 'handed_over', handed) end
if broken then return redis.error_reply(broken) end
local queued, held = -1, -1
for key in pairs(queues_used) do queued = math.max(queued, redis.call('XLEN', key)) end
for key in pairs(held_used) do held = math.max(held, redis.call('XLEN', key)) end
return { handed, skipped, queued, held }
