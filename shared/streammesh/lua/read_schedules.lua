#!lua flags=allow-oom
-- Reads every schedule and where it stands, at one moment; or some of them.
-- KEYS schedules (HASH), schedules_due (ZSET)
-- ARGS only (names of those that are meant; none: all)
-- Returns {now (ms), name, entry (JSON), time it stands at (ms, '' when it is not enabled), ...}.
--#include _time.lua
local all = #only == 0 and redis.call('HGETALL', schedules) or {}
for _, name in ipairs(only) do
  local entry = redis.call('HGET', schedules, name)
  if entry then all[#all + 1] = name; all[#all + 1] = entry end
end
local out = { digits(now_ms()) }
for i = 1, #all, 2 do
  out[#out + 1] = all[i]
  out[#out + 1] = all[i + 1]
  out[#out + 1] = redis.call('ZSCORE', schedules_due, all[i]) or ''
end
return out
