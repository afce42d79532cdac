#!lua flags=allow-oom
-- Records what steps of durable handlers came to, each once and under its attempt's fencing token: a record that is there
-- already is answered, whatever is brought now.
-- KEYS notifications (STREAM)
-- ARGS kept (notifications), service, most_steps, most_bytes (both of one task)
-- steps: KEYS task_row (HASH), event_row (HASH), waiters (ZSET), arrived (ZSET; both of a wait that is given up) ARGS token, entry (of the queue), name,
--   kind ('step', or 'timeout': a wait is given up, if it is time; where it was for an event in time that came after all, that counts), value (JSON), waiter (member of waiters, or ''), after (field of the
--   row: which events of that kind it had), domain (of the event, where only one counts that was published in time; else ''), version,
--   body (of the notification), source, event, event_type, subject, task
-- Returns per step {'done', record} | {'lost'} | {'cancelled'} (it is wanted cancelled) | {'early'} (the wait goes on)
--   | {'open'} (what was published in time may still be on its way)
--   | {'full'} (the task has as many steps, or bytes of them, as it may).
--#include _time.lua
--#include _notify.lua
--#include _entry.lua
--#include _under_way.lua
local now = now_ms()

-- An event that came in time for a run which counts only such, where one that was published too late was first to look for it.
local function came_in_time(one)
  local row = redis.call('HMGET', one.task_row, 'last:' .. one.name, 'queued', one.after)
  if not string.match(row[1] or '', '^%d+$') then return nil end
  local own = published_at(redis.call('HGET', one.event_row, 'at:' .. one.source)) or digits((tonumber(row[2] or '') or 0) * 1000)
  local found = write('ZRANGEBYSCORE', one.arrived, '(' .. (tonumber(row[3] or '') and row[3] or own), row[1], 'WITHSCORES', 'LIMIT', 0, 1)
  return found[1], found[2]
end

-- Whether an event that was published in time for a run which counts only such may still be on its way to it. Beyond an hour
-- it does not count.
local function is_under_way(one)
  local last = string.match(redis.call('HGET', one.task_row, 'last:' .. one.name) or '', '^%d+$')
  if not last or tonumber(last) / 1000 + 3600000 < now then return false end
  local prefix = string.match(one.waiters, '^(.-}:)')
  return is_on_its_way(prefix .. 'events:' .. one.domain, prefix .. 'routed:' .. one.domain, prefix .. 'waking:' .. service,
    service, last)
end

local function record(one)
  local field = 'step:' .. one.name
  local row = redis.call('HMGET', one.task_row, 'state', 'attempt', 'cancel', field, 'wait:' .. one.name, 'steps', 'step_bytes', 'entry')
  -- A replay counts attempts anew, so the entry tells who was cut off before it from who runs now.
  if row[1] ~= 'started' or row[2] ~= one.token or (one.entry ~= '' and row[8] ~= one.entry) then return { 'lost' } end
  if row[4] then return { 'done', row[4] } end
  if row[3] then return { 'cancelled' } end
  local kind, value = one.kind, one.value
  if one.kind == 'timeout' then
    if (tonumber(string.match(row[5] or '', '^%d+') or '') or 0) > now then return { 'early' } end
    if one.waiter ~= '' then
      local came, score = came_in_time(one)
      if not came and one.domain ~= '' and is_under_way(one) then return { 'open' } end
      write('ZREM', one.waiters, one.waiter)
      if came then
        kind, value = 'event', came
        redis.call('HSET', one.task_row, one.after, score)
      end
    end
  end
  local steps, bytes = (tonumber(row[6] or '') or 0) + 1, (tonumber(row[7] or '') or 0) + #value
  if steps > most_steps or bytes > most_bytes then return { 'full' } end
  local made = digits(now) .. ' ' .. kind .. ' ' .. value
  redis.call('HSET', one.task_row, field, made, 'steps', digits(steps), 'step_bytes', digits(bytes), 'durable', one.version)
  tell_of_event({ stream = notifications, kept = kept, row = one.event_row, source = one.source, type = 'task.step',
    event = one.event, task = one.task, service = service, event_type = one.event_type, subject = one.subject, body = one.body })
  return { 'done', made }
end

local answers = {}
for i, one in ipairs(steps) do answers[i] = record(one) end
return answers
