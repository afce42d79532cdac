-- Hands a batch of one stream's entries over to a service's queue, each exactly once: XACK is the gate.
-- An entry whose XACK does not answer 1 was handed over before (by a call whose reply was lost, by
-- another dispatcher, before a SIGKILL) and is skipped. A task that has a ledger row already is not
-- queued again either, nor is one that the event's row knows: a group made anew from an old position
-- does no harm.
-- KEYS[1] events (STREAM)  KEYS[2] notifications (STREAM)  KEYS[3] counters (HASH)  KEYS[4] open tasks (ZSET)
-- KEYS[5] holding (SET)  KEYS[6] version of the manifests (STRING)
-- then per entry: the event's row (HASH), and per delivery: the task's row (HASH), and its queue (STREAM) or,
--   while the subscription is paused, the stream where its tasks wait (STREAM)
-- ARGV[1] group  ARGV[2] notifications kept  ARGV[3] number of entries  ARGV[4] version the batch was planned by ('*': any)
-- then per entry: position, source, event id, event type, subject, wanted deliveries in all services
--   ('' if not known), event fragment for notifications, number of deliveries; per delivery: task id,
--   task name, service, meta (JSON), task fragment, expires (ms or ''), h, b (the queue entry), 'queued' or 'held'
-- Returns {handed over, skipped, length of the queue, most tasks that wait for one paused subscription}; -1 for
-- what was not touched. {'stale'} and nothing done: the manifests have changed since the batch was planned.
--#include _time.lua
--#include _notify.lua
if ARGV[4] ~= '*' and (redis.call('GET', KEYS[6]) or '') ~= ARGV[4] then return { 'stale' } end
local stream, group, n, k, a = KEYS[1], ARGV[1], tonumber(ARGV[3]), 7, 5
local now, checked, opened = digits(now_ms()), {}, {}
local handed, skipped, queue_used, held_used = 0, 0, nil, {}
for _ = 1, n do
  local row, entry, source, event, etype, subject, want, fragment, count =
    KEYS[k], ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], ARGV[a + 5], ARGV[a + 6], tonumber(ARGV[a + 7])
  k, a = k + 1, a + 8
  -- A script is not rolled back: what could fail for this entry fails here, before it is acknowledged.
  local known = redis.call('HMGET', row, 'at:' .. source, 'notes:' .. source, 'want:' .. source)
  for i = 1, count do
    local queue = KEYS[k + 2 * i - 1]
    if not checked[queue] then
      local kind = redis.call('TYPE', queue).ok
      if kind ~= 'none' and kind ~= 'stream' then return redis.error_reply('WRONGTYPE ' .. queue .. ' is a ' .. kind) end
      checked[queue] = true
    end
  end
  local mine = redis.call('XACK', stream, group, entry) == 1
  if not mine then skipped = skipped + 1 end
  local notes, changes = known[2], {}
  -- A subscription that came since another service's lane said how many want it raises the number.
  if mine and known[1] and want ~= '' and (not known[3] or tonumber(known[3]) < tonumber(want)) then
    changes = { 'want:' .. source, want }
    if want == '0' then
      redis.call('HINCRBY', KEYS[3], 'unrouted', 1)
      notes = noted(notes, tell({ stream = KEYS[2], kept = ARGV[2], type = 'event.unrouted', event = event, task = '',
        service = '', event_type = etype, subject = subject,
        body = fragment .. ',"data":{"reason":"no subscription wants it"}' }))
    end
  end
  for _ = 1, count do
    local task, queue = KEYS[k], KEYS[k + 1]
    local id, name, service, meta, tfragment, expires, h, b, state =
      ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], ARGV[a + 5], ARGV[a + 6], ARGV[a + 7], ARGV[a + 8]
    k, a = k + 2, a + 9
    if state == 'queued' then queue_used = queue else held_used[queue] = true end
    if mine and redis.call('EXISTS', task) == 0 and redis.call('HEXISTS', row, 'task:' .. id) == 0 then
      local change = { 'state', state, 'attempt', 0, 'queued', now, 'meta', meta }
      if state == 'queued' then
        change[9], change[10] = 'entry', redis.call('XADD', queue, '*', 'h', h, 'b', b)
      else
        change[9], change[10] = 'held', redis.call('XADD', queue, '*', 'k', id, 'h', h, 'b', b)
        redis.call('SADD', KEYS[5], name)
      end
      if expires ~= '' then change[11], change[12] = 'expires', expires end
      redis.call('HSET', task, unpack(change))
      notes = noted(notes, tell({ stream = KEYS[2], kept = ARGV[2], type = 'task.' .. state, event = event, task = id,
        service = service, event_type = etype, subject = subject, body = fragment .. tfragment }))
      changes[#changes + 1], changes[#changes + 2] = 'task:' .. id, source
      opened[#opened + 1], opened[#opened + 2] = now, id
      handed = handed + 1
    end
  end
  if known[1] and #changes > 0 then redis.call('HSET', row, 'notes:' .. source, notes or '', unpack(changes)) end
end
for i = 1, #opened, 1000 do redis.call('ZADD', KEYS[4], unpack(opened, i, math.min(i + 999, #opened))) end
if handed > 0 then redis.call('HINCRBY', KEYS[3], 'handed_over', handed) end
local held = -1
for key in pairs(held_used) do held = math.max(held, redis.call('XLEN', key)) end
return { handed, skipped, queue_used and redis.call('XLEN', queue_used) or -1, held }
