#!lua flags=allow-oom
-- Queues a task again whose queue entry has vanished: the queue was deleted by hand, say. Looks again whether
-- that is so: of several janitors, and of a janitor and a worker, one acts. What is wanted cancelled is not queued.
-- KEYS[1] task (HASH)  KEYS[2] queue (STREAM)  KEYS[3] due (ZSET)  KEYS[4] held (STREAM)  KEYS[5] event row (HASH)
-- KEYS[6] notifications (STREAM)
-- ARGV[1] task id  ARGV[2] state and ARGV[3] place, as they were seen  ARGV[4] h, ARGV[5] b  ARGV[6] notifications kept
-- ARGV[7] body of the notification  ARGV[8] source  ARGV[9] event id  ARGV[10] event type  ARGV[11] subject
-- ARGV[12] service
-- Returns 1 if this call queued it, 0 if not.
--#include _notify.lua
--#include _entry.lua
local row = redis.call('HMGET', KEYS[1], 'state', 'entry', 'held', 'workflow', 'cancel')
local state, place = row[1], ARGV[3]
if state ~= ARGV[2] or row[5] then return 0 end
if place ~= '' and place ~= (state == 'held' and row[3] or row[2]) then return 0 end
if not lies_nowhere({ state = state, entry = row[2], workflow = row[4], held = row[3], task = ARGV[1], queue = KEYS[2],
  due = KEYS[3], aside = KEYS[4] }) then return 0 end
redis.call('HSET', KEYS[1], 'state', 'queued', 'entry', redis.call('XADD', KEYS[2], '*', 'h', ARGV[4], 'b', ARGV[5], 'n', 0),
  'due', '', 'held', '')
tell_of_event({ stream = KEYS[6], kept = ARGV[6], row = KEYS[5], source = ARGV[8], type = 'task.queued', event = ARGV[9],
  task = ARGV[1], service = ARGV[12], event_type = ARGV[10], subject = ARGV[11], body = ARGV[7] })
return 1
