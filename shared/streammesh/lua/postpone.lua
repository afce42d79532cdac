#!lua flags=allow-oom
-- Puts a queue entry back for later that no worker may run yet: nobody here knows its task. It waits in the
-- due set, longer each time, and not for ever. The entry says in its field `u` since when (ms).
-- KEYS[1] queue (STREAM)  KEYS[2] due (ZSET)  KEYS[3] due_entries (HASH)  KEYS[4] task (HASH; of any task)
-- KEYS[5] event row (HASH)  KEYS[6] notifications (STREAM)
-- ARGV[1] group  ARGV[2] entry  ARGV[3] patience, ms  ARGV[4] shortest wait, ms  ARGV[5] longest wait, ms
-- ARGV[6] jitter (0.5 to 1)  ARGV[7] channel for changes  ARGV[8] task id  ARGV[9] error (JSON)
-- ARGV[10] notifications kept  ARGV[11] body of the notification ('' when there is no ledger row)
-- ARGV[12] source  ARGV[13] event id  ARGV[14] event type  ARGV[15] subject  ARGV[16] service
-- ARGV[17] h, ARGV[18] b, ARGV[19] u of what another broker carries and no entry stands for ('' for none): a repeat
-- waits in the same place
-- Returns {'done', wait (ms)} | {'gone'} (not pending any more) | {'enough', since (ms)} (nothing was changed).
--#include _time.lua
--#include _notify.lua
local f, now = { h = ARGV[17], b = ARGV[18], u = ARGV[19] }, now_ms()
local queued = f.h == ''
if queued then
  local found = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])
  if #found == 0 then
    redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
    return { 'gone' }
  end
  local fields = found[1][2]
  for i = 1, #fields, 2 do f[fields[i]] = fields[i + 1] end
end
-- Whatever else stands there (a time to come, thirty digits, no number) would keep it for ever: it begins now.
local since = string.match(f.u or '', '^%d+$') and tonumber(f.u) or now
if since > now then since = now end
if now - since >= tonumber(ARGV[3]) then return { 'enough', digits(since) } end
if queued then
  if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return { 'gone' } end
  redis.call('XDEL', KEYS[1], ARGV[2])
end
local wait = math.min(math.max(now - since, tonumber(ARGV[4])), tonumber(ARGV[5])) * tonumber(ARGV[6])
local due = digits(now + wait)
local row = redis.call('HMGET', KEYS[4], 'state', 'entry')
local ours, member = ARGV[11] ~= '' and row[1] == 'queued' and row[2] == ARGV[2], 'task:' .. ARGV[8]
if not ours then member = 'entry:' .. ARGV[8] .. ' ' .. ARGV[2] end
write('ZADD', KEYS[2], due, member)
write('HSET', KEYS[3], member, cjson.encode({ kind = ours and 'task' or 'entry', task = ARGV[8], queue = KEYS[1] }),
  'h ' .. member, f.h, 'b ' .. member, f.b, 'u ' .. member, digits(since))
if redis.call('ZRANGE', KEYS[2], 0, 0)[1] == member then redis.call('PUBLISH', ARGV[7], 'due') end
if ours then
  redis.call('HSET', KEYS[4], 'state', 'retrying', 'due', due, 'outcome', ARGV[9], 'entry', '')
  tell_of_event({ stream = KEYS[6], kept = ARGV[10], row = KEYS[5], source = ARGV[12], type = 'task.retrying',
    event = ARGV[13], task = ARGV[8], service = ARGV[16], event_type = ARGV[14], subject = ARGV[15], body = ARGV[11] })
end
return { 'done', digits(wait) }
