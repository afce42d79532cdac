#!lua flags=allow-oom
-- Gives one dead letter another life: its task is queued as if it had just been handed over, a parked entry
-- goes back to its queue, a broken event to its stream. The letter's removal is the gate. The event is not
-- complete any more, so that its end is told anew.
-- KEYS[1] dead (HASH)  KEYS[2] dead index (ZSET)  KEYS[3] dead entries (HASH)  KEYS[4] queue or events (STREAM)
-- and of a task: KEYS[5] task (HASH)  KEYS[6] event row (HASH)  KEYS[7] notifications (STREAM)
-- KEYS[8] open tasks (ZSET)  KEYS[9] due (ZSET)  KEYS[10] due_entries (HASH)
-- ARGV[1] id  ARGV[2] 'task', 'entry' or 'event'
-- and of a task: ARGV[3] wait, ms ('0': at once)  ARGV[4] notifications kept  ARGV[5] channel for changes
-- ARGV[6] body of the notification up to its data  ARGV[7] source  ARGV[8] event id  ARGV[9] event type
-- ARGV[10] subject  ARGV[11] service
-- Returns {'replayed'} | {'gone'} (no such letter) | {'nothing'} (it has nothing to put back)
--   | {'busy', state} (the task has another life already).
--#include _time.lua
--#include _notify.lua
--#include _dead.lua
local d, id = { dead = KEYS[1], index = KEYS[2], entries = KEYS[3] }, ARGV[1]
if redis.call('HEXISTS', d.dead, id) == 0 then return { 'gone' } end
local kept = redis.call('HMGET', d.entries, 'h:' .. id, 'b:' .. id, 'm:' .. id, 'e:' .. id)
local h, b, meta, e = kept[1], kept[2], kept[3], kept[4]
if ARGV[2] == 'event' then
  if not e then return { 'nothing' } end
  redis.call('XADD', KEYS[4], '*', 'e', e)
  unpark(d, id)
  return { 'replayed' }
end
if not h or not b then return { 'nothing' } end
if ARGV[2] == 'entry' then
  redis.call('XADD', KEYS[4], '*', 'h', h, 'b', b)
  unpark(d, id)
  return { 'replayed' }
end
local row, state = KEYS[5], redis.call('HGET', KEYS[5], 'state')
if state and state ~= 'failed' then return { 'busy', state } end
if not state and not meta then return { 'nothing' } end
local now, wait = now_ms(), tonumber(ARGV[3])
redis.call('HDEL', row, 'ended', 'outcome', 'worker', 'started', 'progress', 'lost', 'expires', 'workflow')
redis.call('HSET', row, 'attempt', 0, 'queued', digits(now))
if not state then redis.call('HSET', row, 'meta', meta) end
redis.call('PERSIST', row)
write('ZADD', KEYS[8], digits(now), id)
local replays = write('HINCRBY', row, 'replays', 1)
local note = { stream = KEYS[7], kept = ARGV[4], row = KEYS[6], source = ARGV[7], type = 'task.queued', event = ARGV[8],
  task = id, service = ARGV[11], event_type = ARGV[9], subject = ARGV[10],
  body = ARGV[6] .. ',"data":{"replays":' .. replays .. '}' }
if wait > 0 then
  local due, member = digits(now + wait), 'task:' .. id
  redis.call('HSET', row, 'state', 'retrying', 'due', due, 'entry', '')
  write('ZADD', KEYS[9], due, member)
  write('HSET', KEYS[10], member, cjson.encode({ kind = 'task', task = id, queue = KEYS[4], h = h, b = b }))
  if redis.call('ZRANGE', KEYS[9], 0, 0)[1] == member then redis.call('PUBLISH', ARGV[5], 'due') end
  note.type = 'task.retrying'
  note.body = ARGV[6] .. ',"data":{"replays":' .. replays .. ',"retry_in_seconds":' .. wait / 1000 .. '}'
else
  redis.call('HSET', row, 'state', 'queued', 'entry', redis.call('XADD', KEYS[4], '*', 'h', h, 'b', b))
end
for _, field in ipairs({ 'done:' .. ARGV[7], 'failed:' .. ARGV[7] }) do
  if tonumber(redis.call('HGET', KEYS[6], field) or '0') > 0 then write('HINCRBY', KEYS[6], field, -1) end
end
tell_of_event(note)
unpark(d, id)
return { 'replayed' }
