#!lua flags=allow-oom
-- Pauses a subscription, or resumes it and counts its failures anew; and tells so.
-- KEYS[1] paused (HASH)  KEYS[2] failures in a row (HASH)  KEYS[3] notifications (STREAM)
-- ARGV[1] task name  ARGV[2] why (JSON) to pause, '' to resume  ARGV[3] notifications kept
-- ARGV[4] channel for changes  ARGV[5] body of the notification  ARGV[6] service  ARGV[7] event type
-- Returns 1 if it was not so already, 0 if it was.
--#include _write.lua
local changed
if ARGV[2] ~= '' then
  changed = redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
else
  changed = redis.call('HDEL', KEYS[1], ARGV[1])
end
if changed == 0 then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
local what = ARGV[2] ~= '' and 'paused' or 'resumed'
write('XADD', KEYS[3], 'MAXLEN', '~', ARGV[3], '*', 't', 'subscription.' .. what, 'e', '', 'k', '', 'v', ARGV[6],
  'y', ARGV[7], 'u', '', 'b', ARGV[5])
redis.call('PUBLISH', ARGV[4], what)
return 1
