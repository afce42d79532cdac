#!lua flags=allow-oom
-- Ends an attempt that failed and sets the task's next one: its queue entry moves into the due set.
-- Nothing waits in a worker. Refused when the token is no longer the current one.
-- KEYS[1] task (HASH)  KEYS[2] event row (HASH)  KEYS[3] notifications (STREAM)  KEYS[4] queue (STREAM)
-- KEYS[5] due (ZSET)  KEYS[6] due_entries (HASH)
-- ARGV[1] token  ARGV[2] wait, ms  ARGV[3] error (JSON)  ARGV[4] queue entry  ARGV[5] group of the queue
-- ARGV[6] notifications kept  ARGV[7] body of the notification
-- ARGV[8] source  ARGV[9] event id  ARGV[10] event type  ARGV[11] subject  ARGV[12] service  ARGV[13] task id
-- ARGV[14] queue name  ARGV[15] channel for changes
-- Returns {'done', due (ms)} | {'lost'} (also where its queue entry has vanished: it is queued again from its event)
--   | {'cancelled'} (it is wanted cancelled: to be ended instead).
--#include _time.lua
--#include _notify.lua
--#include _entry.lua
local row = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'due', 'entry', 'cancel')
if not row[1] or row[2] ~= ARGV[1] then return { 'lost' } end
if row[1] == 'retrying' then return { 'done', row[3] } end
if row[1] ~= 'started' or (ARGV[4] ~= '' and row[4] ~= ARGV[4]) then return { 'lost' } end
if row[5] then return { 'cancelled' } end
if ARGV[4] == '' then return redis.error_reply('NOENTRY no queue entry stands for this task') end
local h, b = queued_fields(KEYS[4], ARGV[4])
if not h then return { 'lost' } end
local due, member = digits(now_ms() + tonumber(ARGV[2])), 'task:' .. ARGV[13]
redis.call('HSET', KEYS[1], 'state', 'retrying', 'due', due, 'outcome', ARGV[3], 'entry', '')
redis.call('HDEL', KEYS[1], 'lease')
write('ZADD', KEYS[5], due, member)
write('HSET', KEYS[6], member, cjson.encode({ kind = 'task', task = ARGV[13], queue = ARGV[14], h = h, b = b }))
if redis.call('ZRANGE', KEYS[5], 0, 0)[1] == member then redis.call('PUBLISH', ARGV[15], 'due') end
redis.call('XACK', KEYS[4], ARGV[5], ARGV[4])
redis.call('XDEL', KEYS[4], ARGV[4])
tell_of_event({ stream = KEYS[3], kept = ARGV[6], row = KEYS[2], source = ARGV[8], type = 'task.retrying', event = ARGV[9],
  task = ARGV[13], service = ARGV[12], event_type = ARGV[10], subject = ARGV[11], body = ARGV[7] })
return { 'done', due }
