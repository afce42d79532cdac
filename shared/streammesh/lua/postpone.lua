#!lua flags=allow-oom
-- Puts a queue entry back for later that no worker may run yet: nobody here knows its task. It waits in the
-- due set, longer each time, and not for ever. The entry says in its field `u` since when (ms).
-- KEYS queue (STREAM), due (ZSET), due_entries (HASH), task_row (HASH, of any task), event_row (HASH),
--   notifications (STREAM)
-- ARGS group, entry, patience (ms), shortest (wait, ms), longest (wait, ms), jitter (0.5 to 1), changed (channel),
--   task, failure (JSON), kept (notifications), body (of the notification, '' when there is no ledger row),
--   source, event, event_type, subject, service, h, b,
--   u (these three of what another broker carries and no entry stands for, '' for none: a repeat waits in the same place)
-- Returns {'done', wait (ms)} | {'gone'} (not pending any more) | {'enough', since (ms)} (nothing was changed).
--#include _time.lua
--#include _notify.lua
--#include _flow.lua
local f, now = { h = h, b = b, u = u }, now_ms()
local queued = h == ''
if queued then
  local found = redis.call('XRANGE', queue, entry, entry)
  if #found == 0 then
    redis.call('XACK', queue, group, entry)
    return { 'gone' }
  end
  local fields = found[1][2]
  for i = 1, #fields, 2 do f[fields[i]] = fields[i + 1] end
end
-- Whatever else stands there (a time to come, thirty digits, no number) would keep it for ever: it begins now.
local since = string.match(f.u or '', '^%d+$') and tonumber(f.u) or now
if since > now then since = now end
if now - since >= patience then return { 'enough', digits(since) } end
if queued then
  if redis.call('XACK', queue, group, entry) == 0 then return { 'gone' } end
  redis.call('XDEL', queue, entry)
end
local wait = math.min(math.max(now - since, shortest), longest) * jitter
local due_at = digits(now + wait)
local row = redis.call('HMGET', task_row, 'state', 'entry', 'flow')
local ours, member = body ~= '' and row[1] == 'queued' and row[2] == entry, 'task:' .. task
if not ours then member = 'entry:' .. task .. ' ' .. entry end
write('ZADD', due, due_at, member)
write('HSET', due_entries, member, cjson.encode({ kind = ours and 'task' or 'entry', task = task, queue = queue }),
  'h ' .. member, f.h, 'b ' .. member, f.b, 'u ' .. member, digits(since))
if redis.call('ZRANGE', due, 0, 0)[1] == member then redis.call('PUBLISH', changed, 'due') end
if ours then
  redis.call('HSET', task_row, 'state', 'retrying', 'due', due_at, 'outcome', failure, 'entry', '')
  let_go(task_row, row[3], task)
  tell_of_event({ stream = notifications, kept = kept, row = event_row, source = source, type = 'task.retrying',
    event = event, task = task, service = service, event_type = event_type, subject = subject, body = body })
end
return { 'done', digits(wait) }
