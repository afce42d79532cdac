#!lua flags=allow-oom
-- Pauses a subscription, or resumes it and counts its failures anew; and tells so.
-- KEYS paused (HASH), failures (HASH, in a row), notifications (STREAM)
-- ARGS name (of the task), why (JSON, to pause, '' to resume), kept (notifications), changed (channel),
--   body (of the notification), service, event_type
-- Returns 1 if it was not so already, 0 if it was.
--#include _write.lua
local differs
if why ~= '' then
  differs = redis.call('HSETNX', paused, name, why)
else
  differs = redis.call('HDEL', paused, name)
end
if differs == 0 then return 0 end
redis.call('HDEL', failures, name)
local what = why ~= '' and 'paused' or 'resumed'
write('XADD', notifications, 'MAXLEN', '~', kept, '*', 't', 'subscription.' .. what, 'e', '', 'k', '', 'v', service,
  'y', event_type, 'u', '', 'b', body)
redis.call('PUBLISH', changed, what)
return 1
