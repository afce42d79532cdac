#!lua flags=allow-oom
-- Reads every schedule and where it stands, at one moment.
-- KEYS schedules (HASH), schedules_due (ZSET)
-- Returns {now (ms), name, entry (JSON), time it stands at (ms, '' when it is not enabled), ...}.
--#include _time.lua
local all = redis.call('HGETALL', schedules)
local out = { digits(now_ms()) }
for i = 1, #all, 2 do
  out[#out + 1] = all[i]
  out[#out + 1] = all[i + 1]
  out[#out + 1] = redis.call('ZSCORE', schedules_due, all[i]) or ''
end
return out
