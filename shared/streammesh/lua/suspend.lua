#!lua flags=allow-oom
-- Ends an attempt of a durable handler that waits, or whose code this worker does not have: its queue entry moves into the
-- due set until the time is over, and nothing waits in a worker. What it waits for may have come already (an event since the run's own, a signal): then it is
-- queued again at once. Its deadline is that of the first time it came here. Refused when the token is not the current one.
-- KEYS task_row (HASH), event_row (HASH), notifications (STREAM), queue (STREAM), due (ZSET), due_entries (HASH),
--   arrived (ZSET, of events that may be waited for), waiters (ZSET, of tasks that wait for those)
-- ARGS token, entry (of the queue), group, kept (notifications), name (of the wait), longest (ms), within (ms: only an
--   event counts that was published so long after the run's own one; '' for any), waiter (member of waiters; '' unless it waits
--   for an event), after (field of the row: which events of that kind it had), about (JSON object, not empty; kept),
--   version, is_anew (whether its time is counted from now, however often it came here), body (of the notification up to its
--   data), source, event, event_type, subject, service, task, changed (channel)
-- Returns {'done'} | {'lost'} | {'cancelled'} (it is wanted cancelled: to be ended instead).
--#include _time.lua
--#include _notify.lua
--#include _entry.lua
--#include _flow.lua
local LONG, MOST_FIELDS = 60000, 64  -- ms from which on it is worth it to take little room; of a row
local step, wait = 'step:' .. name, 'wait:' .. name
local row = redis.call('HMGET', task_row, 'state', 'attempt', 'entry', 'cancel', 'waiting', wait, step, after, 'queued', 'flow')
if not row[1] or row[2] ~= token then return { 'lost' } end
if row[1] == 'waiting' and row[5] == name or row[1] == 'queued' or row[1] == 'pending' then return { 'done' } end  -- by this call, made before
if row[1] ~= 'started' or (entry ~= '' and row[3] ~= entry) then return { 'lost' } end
if row[4] then return { 'cancelled' } end
if entry == '' then return redis.error_reply('NOENTRY no queue entry stands for this task') end
local h, b = queued_fields(queue, entry)
if not h then return { 'lost' } end
local now = now_ms()

-- Writes the row anew without what only counts while it runs: a hash that has grown keeps the room of what it had.
local function shrink_row()
  if redis.call('HLEN', task_row) > MOST_FIELDS or redis.call('PTTL', task_row) ~= -1 then return end
  redis.call('HDEL', task_row, 'mark', 'worker', 'entry', 'due')
  local fields = redis.call('HGETALL', task_row)
  for i = 1, #fields, 2 do
    if fields[i] == 'meta' then  -- `tasks.records` knows what is left out
      fields[i + 1] = replaced(replaced(fields[i + 1], ',"correlation":"' .. event .. '"', ''), ',"subject":null', '')
    end
  end
  redis.call('DEL', task_row)
  redis.call('HSET', task_row, unpack(fields))
end

local deadline = tonumber(string.match(row[6] or '', '^%d+') or '')
if not deadline or is_anew or deadline > now + 31622400000 then deadline = now + longest end  -- nobody waits for more than a year
local came = row[7]
redis.call('HSET', task_row, wait, digits(deadline) .. ' ' .. about, 'durable', version)
write('HINCRBY', task_row, 'waits', 1)
if waiter ~= '' and not came then
  local own = published_at(redis.call('HGET', event_row, 'at:' .. source)) or digits((tonumber(row[9] or '0') or 0) * 1000)
  local from, last = tonumber(row[8] or '') and row[8] or own, '+inf'
  if within ~= '' then
    last = string.match(redis.call('HGET', task_row, 'last:' .. name) or '', '^%d+$') or last_in_time(own, within)
    redis.call('HSET', task_row, 'last:' .. name, last)
  end
  local found = write('ZRANGEBYSCORE', arrived, '(' .. from, last, 'WITHSCORES', 'LIMIT', 0, 1)
  if found[1] then
    came = true
    redis.call('HSET', task_row, step, digits(now) .. ' event ' .. found[1], after, found[2])
    write('HINCRBY', task_row, 'steps', 1)
    write('HINCRBY', task_row, 'step_bytes', #found[1])
  else
    write('ZADD', waiters, from, waiter)
    local left = math.max(deadline - now, 0) + 60000
    if redis.call('PTTL', waiters) < left then redis.call('PEXPIRE', waiters, digits(left)) end
  end
end
redis.call('HDEL', task_row, 'lease')
if came then
  redis.call('HSET', task_row, 'state', 'queued', 'entry', write('XADD', queue, '*', 'h', h, 'b', b))
else
  local member = 'task:' .. task
  redis.call('HSET', task_row, 'state', 'waiting', 'waiting', name, 'due', digits(deadline), 'entry', '')
  write('ZADD', due, digits(deadline), member)
  local small = deadline - now >= LONG and packed(task, string.match(queue, '}:queue:(.*)$'), h, b)
  if small then shrink_row() end
  write('HSET', due_entries, member, small or cjson.encode({ kind = 'task', task = task, queue = queue, h = h, b = b }))
  if redis.call('ZRANGE', due, 0, 0)[1] == member then redis.call('PUBLISH', changed, 'due') end
  let_go(task_row, row[10], task)
end
gone(queue, group, { entry })
tell_of_event({ stream = notifications, kept = kept, row = event_row, source = source, type = 'task.waiting', event = event,
  task = task, service = service, event_type = event_type, subject = subject,
  body = body .. '{"name":' .. cjson.encode(name) .. ',' .. string.sub(about, 2, -2) .. ',"until":' .. digits(deadline) .. '}' })
return { 'done' }
