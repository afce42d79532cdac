#!lua flags=allow-oom
-- Ends an attempt for some tasks of a batch that failed: each waits in the due set, and stands in line again then. With the
-- task that took the others along its queue entry goes, and its place; who is left of them stands in line again.
-- KEYS run_row (HASH), queue (STREAM), notifications (STREAM), due (ZSET), due_entries (HASH)
-- ARGS run (its task), token (the attempt), entry (of the queue), group, kept (notifications), service, changed (channel)
-- tasks: KEYS row (HASH), event_row (HASH)
--   ARGS id, wait (ms), failure (JSON), is_alone (whether it runs by itself then), body (of the notification), source, event,
--   event_type, subject
-- Returns 'done' | 'lost' (another holds the attempt) | 'cancelled' (the run's own task is wanted cancelled: to be ended instead).
--#include _time.lua
--#include _notify.lua
--#include _entry.lua
--#include _flow.lua
local mine = redis.call('HMGET', run_row, 'state', 'attempt', 'entry', 'cancel')
if mine[1] ~= 'started' or mine[2] ~= token or (entry ~= '' and mine[3] ~= entry) then return 'lost' end
for _, one in ipairs(tasks) do
  if one.id == run and mine[4] then return 'cancelled' end
end
local before = string.match(run_row, '^(.-}:)')
for _, one in ipairs(tasks) do
  local row = redis.call('HMGET', one.row, 'state', 'run', 'attempt', 'h', 'b', 'to', 'flow')
  local is_run = one.id == run
  if row[4] and row[6] and (is_run or row[1] == 'queued' and row[2] == run) then
    local due_at, member = digits(now_ms() + one.wait), 'task:' .. one.id
    local attempt = (tonumber(row[3]) or 0) + (is_run and 0 or 1)
    redis.call('HSET', one.row, 'state', 'retrying', 'due', due_at, 'outcome', one.failure, 'entry', '', 'attempt', attempt)
    if one.is_alone then redis.call('HSET', one.row, 'alone', 1) end
    redis.call('HDEL', one.row, 'run', 'lease')
    write('ZADD', due, due_at, member)
    write('HSET', due_entries, member, cjson.encode({ kind = 'task', task = one.id, queue = before .. 'queue:' .. row[6],
      h = row[4], b = row[5] or '' }))
    if redis.call('ZRANGE', due, 0, 0)[1] == member then redis.call('PUBLISH', changed, 'due') end
    if is_run then
      local f, key, rank = flow_of(one.row, row[7])
      if f then
        scatter(f, one.row, run)
        flow_leave(f, key, rank, run)
      end
      gone(queue, group, { entry })
    end
    redis.call('HDEL', one.row, 'h', 'b', 'to', 'u')
    tell_of_event({ stream = notifications, kept = kept, row = one.event_row, source = one.source, type = 'task.retrying',
      event = one.event, task = one.id, service = service, event_type = one.event_type, subject = one.subject, body = one.body })
  end
end
return 'done'
