#!lua flags=allow-oom
-- Starts an attempt of each of some tasks of one subscription, for the worker that holds their queue entries,
-- and gives each a fencing token. Every task is decided about on its own.
-- A task is refused when it has ended, waits for its retry, or is held by another worker through
-- another queue entry that is still in that queue's pending list. Who holds this very entry may always
-- start: the queue gave it to him because the one before did not renew his lease. A task of a paused
-- subscription is set aside instead: its queue entry moves to where paused ones wait.
-- Another broker may bring one entry to several workers, and late. Then who claims it takes it over in the queue's
-- pending list, and is refused where it is not pending any more or the one who runs it has renewed its lease.
-- A claim that is made again because its reply was lost answers as it did: it has its mark in the row.
-- KEYS notifications (STREAM), queue (STREAM), paused (HASH), held (STREAM), holding (SET)
-- ARGS worker, group, kept (notifications), lease (ms, for queues that are no streams), service, name (of the task),
--   rest (body of the notification between the task's id and the attempt),
--   is_carried (whether another broker brings the entries)
-- tasks: KEYS task (HASH), event_row (HASH) ARGS entry ('' when the queue is no stream), source, event, event_type,
--   subject, id, head (body of the notification up to the task's id), mark (of this claim, of no other of this worker)
-- Returns per task {'run', attempt, times it was lost by a worker} (and its row, of a durable handler that has steps, and of a task that another edition could not read) | {'ended', state} | {'held'}
--   | {'expired', attempts made, outcome of the last one or ''} | {'gone'} | {'cancelled'} (wanted so before it began, or while a worker ran it that is gone: to be ended)
--   | {'paused'} (was set aside).
--#include _time.lua
--#include _notify.lua
--#include _entry.lua
local now = now_ms()
local stamp, lease_end = digits(now), digits(now + lease)
local is_paused = redis.call('HEXISTS', paused, name) == 1

local function run(task, attempt, lost, durable)
  if not durable then return { 'run', attempt, lost } end
  return { 'run', attempt, lost, redis.call('HGETALL', task) }
end

local function claim(one)
  local task, mine = one.task, one.entry
  local row = redis.call('HMGET', task, 'state', 'entry', 'expires', 'lost', 'attempt', 'durable', 'cancel', 'unfit')
  local state, entry, mark = row[1], row[2], one.mark
  local changes = { 'state', 'started', 'started', stamp, 'worker', worker, 'mark', mark }
  local lost, attempt = tonumber(row[4] or '0'), tonumber(row[5] or '0')
  if not state then return { 'gone' } end
  if state == 'retrying' or state == 'waiting' or state == 'held' or state == 'pending' then return { 'held' } end
  if state ~= 'queued' and state ~= 'started' then return { 'ended', state } end
  local before
  if state == 'started' then
    before = redis.call('HMGET', task, 'lease', 'workflow', 'cancel', 'drained', 'mark', 'worker')
    if before[5] == mark and before[6] == worker and not before[2] and not before[3] then
      return run(task, attempt, lost, row[6] or row[8])
    end
  end
  if is_carried and mine ~= '' then
    local owned = redis.call('XPENDING', queue, group, mine, mine, 1)[1]
    if not owned then return { 'held', 'elsewhere' } end
    if state == 'started' and entry == mine and owned[3] < lease and owned[2] == redis.call('HGET', task, 'worker') then
      return { 'held', 'elsewhere' }
    end
  end
  if state == 'started' then
    if before[2] then return { 'held' } end
    if mine == '' then
      if (tonumber(before[1] or '0') or 0) > now then return { 'held' } end
    elseif entry ~= mine and entry and entry ~= '' and #redis.call('XPENDING', queue, group, entry, entry, 1) > 0 then
      return { 'held' }
    end
    if before[3] then return { 'cancelled' } end
    if before[4] then redis.call('HDEL', task, 'drained') else lost = lost + 1 end
    changes[9], changes[10] = 'lost', lost
  elseif row[7] then  -- for a newer one of its key, or for an event that came before it was handed over
    return { 'cancelled' }
  elseif row[3] and tonumber(row[3]) < now and not row[6] then
    return { 'expired', attempt, redis.call('HGET', task, 'outcome') or '' }
  end
  local note = { stream = notifications, kept = kept, row = one.event_row, source = one.source, type = 'task.started',
    event = one.event, event_type = one.event_type, subject = one.subject, task = one.id, service = service }
  local head, tail = one.head .. rest, '},"data":{}'
  if is_paused and mine ~= '' then
    if hold({ row = task, queue = queue, held = held, holding = holding, name = name, task = one.id,
      group = group, entry = mine, lost = lost }) then
      note.type, note.body = 'task.held', head .. attempt .. tail
      tell_of_event(note)
      return { 'paused' }
    end
  end
  attempt = attempt + 1
  if entry ~= mine then changes[#changes + 1], changes[#changes + 2] = 'entry', mine end
  if mine == '' then changes[#changes + 1], changes[#changes + 2] = 'lease', lease_end end
  redis.call('HSET', task, 'attempt', attempt, unpack(changes))
  if is_carried and mine ~= '' then redis.call('XCLAIM', queue, group, worker, 0, mine, 'JUSTID') end
  note.body = head .. attempt .. tail
  tell_of_event(note)
  return run(task, attempt, lost, row[6] or row[8])
end

local answers = {}
for _, one in ipairs(tasks) do
  local answer = claim(one)
  if is_carried and one.entry ~= '' and (answer[1] == 'ended' or answer[1] == 'held' and not answer[2]) then
    redis.call('XACK', queue, group, one.entry)  -- there, what Celery acknowledges now is only a copy
    redis.call('XDEL', queue, one.entry)
  end
  answers[#answers + 1] = answer
end
return answers
