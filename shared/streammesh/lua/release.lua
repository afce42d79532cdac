#!lua flags=allow-oom
-- Queues one task that was set aside while its subscription was paused. Its removal from where it waited is
-- the gate: of several dispatchers one queues it. One that has ended meanwhile is only removed; one whose record was
-- lost is queued all the same: whoever claims it parks it, with a reason.
-- KEYS[1] held (STREAM)  KEYS[2] holding (SET)  KEYS[3] paused (HASH)  KEYS[4] queue (STREAM)  KEYS[5] task (HASH)
-- KEYS[6] event row (HASH)  KEYS[7] notifications (STREAM)
-- ARGV[1] task name  ARGV[2] position ('' only to look whether all are gone)  ARGV[3] notifications kept
-- ARGV[4] body of the notification  ARGV[5] source  ARGV[6] event id  ARGV[7] event type  ARGV[8] subject
-- ARGV[9] service  ARGV[10] task id
-- Returns 1 if this call queued it, 0 if not.
--#include _notify.lua
if redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 then return 0 end
local queued = 0
local found = ARGV[2] ~= '' and redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2]) or {}
if #found == 1 then
  redis.call('XDEL', KEYS[1], ARGV[2])
  local row = redis.call('HMGET', KEYS[5], 'state', 'held')
  if not row[1] or row[1] == 'held' and row[2] == ARGV[2] then
    local fields, copy = found[1][2], {}
    for i = 1, #fields, 2 do
      if fields[i] ~= 'k' then copy[#copy + 1], copy[#copy + 2] = fields[i], fields[i + 1] end
    end
    local place = redis.call('XADD', KEYS[4], '*', unpack(copy))
    if row[1] then
      redis.call('HSET', KEYS[5], 'state', 'queued', 'entry', place, 'held', '')
      tell_of_event({ stream = KEYS[7], kept = ARGV[3], row = KEYS[6], source = ARGV[5], type = 'task.queued',
        event = ARGV[6], task = ARGV[10], service = ARGV[9], event_type = ARGV[7], subject = ARGV[8], body = ARGV[4] })
    end
    queued = 1
  end
end
if redis.call('XLEN', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[1])
  redis.call('SREM', KEYS[2], ARGV[1])
end
return queued
