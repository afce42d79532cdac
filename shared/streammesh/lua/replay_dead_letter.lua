#!lua flags=allow-oom
-- Gives one dead letter another life: its task is queued as if it had just been handed over, a parked entry
-- goes back to its queue, a broken event to its stream. The letter's removal is the gate. The event is not
-- complete any more, so that its end is told anew.
-- KEYS dead (HASH), index (ZSET), entries (HASH), target (STREAM, queue or events)
-- ARGS id, form ('task', 'entry' or 'event')
-- tasks: KEYS row (HASH), event_row (HASH), notifications (STREAM), open_tasks (ZSET), due (ZSET), due_entries (HASH),
--   cancellable (ZSET, of tasks that an event may cancel)
--   ARGS wait (ms, 0: at once), kept (notifications), changed (channel), body (of the notification up to its data),
--   source, event, event_type, subject, service
-- Returns {'replayed'} | {'gone'} (no such letter) | {'nothing'} (it has nothing to put back)
--   | {'busy', state} (the task has another life already).
--#include _time.lua
--#include _notify.lua
--#include _dead.lua
--#include _flow.lua
local d = { dead = dead, index = index, entries = entries }
if redis.call('HEXISTS', d.dead, id) == 0 then return { 'gone' } end
local kept = redis.call('HMGET', d.entries, 'h:' .. id, 'b:' .. id, 'm:' .. id, 'e:' .. id, 'f:' .. id, 'c:' .. id)
local h, b, meta, e, flow = kept[1], kept[2], kept[3], kept[4], kept[5]
if form == 'event' then
  if not e then return { 'nothing' } end
  redis.call('XADD', target, '*', 'e', e)
  unpark(d, id)
  return { 'replayed' }
end
if not h or not b then return { 'nothing' } end
if form == 'entry' then
  redis.call('XADD', target, '*', 'h', h, 'b', b)
  unpark(d, id)
  return { 'replayed' }
end
local t = tasks[1]
local row, state = t.row, redis.call('HGET', t.row, 'state')
if state and state ~= 'failed' then return { 'busy', state } end
if not state and not meta then return { 'nothing' } end
local now, wait = now_ms(), t.wait
redis.call('HDEL', row, 'ended', 'outcome', 'worker', 'started', 'progress', 'lost', 'expires', 'workflow', 'waits', 'waiting')
redis.call('HSET', row, 'attempt', 0, 'queued', digits(now))
if not state then redis.call('HSET', row, 'meta', meta) end
if flow then redis.call('HSET', row, 'flow', flow) end
if kept[6] then redis.call('HSET', row, 'cancellable', kept[6]) end
for member in string.gmatch(kept[6] or '', '[^\n]+') do write('ZADD', t.cancellable, 0, member) end
redis.call('PERSIST', row)
write('ZADD', t.open_tasks, digits(now), id)
local replays = write('HINCRBY', row, 'replays', 1)
local note = { stream = t.notifications, kept = t.kept, row = t.event_row, source = t.source, type = 'task.queued',
  event = t.event, task = id, service = t.service, event_type = t.event_type, subject = t.subject,
  body = t.body .. ',"data":{"replays":' .. replays .. '}' }
if wait > 0 then
  local due_at, member = digits(now + wait), 'task:' .. id
  redis.call('HSET', row, 'state', 'retrying', 'due', due_at, 'entry', '')
  write('ZADD', t.due, due_at, member)
  write('HSET', t.due_entries, member, cjson.encode({ kind = 'task', task = id, queue = target, h = h, b = b }))
  if redis.call('ZRANGE', t.due, 0, 0)[1] == member then redis.call('PUBLISH', t.changed, 'due') end
  note.type = 'task.retrying'
  note.body = t.body .. ',"data":{"replays":' .. replays .. ',"retry_in_seconds":' .. wait / 1000 .. '}'
else
  flow_again(row, flow, id, target, { 'h', h, 'b', b })
end
for _, field in ipairs({ 'done:' .. t.source, 'failed:' .. t.source }) do
  if tonumber(redis.call('HGET', t.event_row, field) or '0') > 0 then write('HINCRBY', t.event_row, field, -1) end
end
tell_of_event(note)
unpark(d, id)
return { 'replayed' }
