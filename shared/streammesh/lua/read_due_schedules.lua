#!lua flags=allow-oom
-- Tells a Beat which schedules are due by the server's clock and when the next one is, and notes that
-- this Beat is alive.
-- KEYS schedules (HASH), schedules_due (ZSET), alive (ZSET)
-- ARGS beat (its name), limit (most schedules to answer with), fresh (how long a look of a Beat counts, ms)
-- Returns {now (ms), time of the first one that is not answered ('' for none), name, time it stands at,
-- entry (JSON, '' when it is missing), ...}.
--#include _time.lua
local now = now_ms()
redis.call('ZADD', alive, digits(now), beat)
redis.call('ZREMRANGEBYSCORE', alive, '-inf', digits(now - 60000))
-- Beats that look are counted, and where more is due than one answer holds each is told of its own share first.
local beats = redis.call('ZRANGEBYSCORE', alive, digits(now - fresh), '+inf')
table.sort(beats)
local mine, others = 0, #beats
for i, name in ipairs(beats) do if name == beat then mine = i - 1 end end
local found = redis.call('ZRANGE', schedules_due, 0, limit, 'WITHSCORES')
local crowded = others > 1 and #found > 2 * limit and tonumber(found[2 * limit + 2]) <= now
if crowded then
  local more, share = redis.call('ZRANGE', schedules_due, 0, limit * others, 'WITHSCORES'), {}
  for i = 1, #more, 2 do
    if tonumber(more[i + 1]) > now or #share >= 2 * limit then break end
    local sum = 0
    for at = 1, #more[i] do sum = sum + string.byte(more[i], at) end
    if sum % others == mine then share[#share + 1], share[#share + 2] = more[i], more[i + 1] end
  end
  -- The rest of the line is asked for next, at once; with no share of its own in sight it does what others leave.
  if #share > 0 then
    found = share
    found[#found + 1], found[#found + 2] = '', digits(now)
  end
end
local out = { digits(now), '' }
for i = 1, #found, 2 do
  if tonumber(found[i + 1]) > now or i > 2 * limit or found[i] == '' then
    out[2] = found[i + 1]
    break
  end
  out[#out + 1] = found[i]
  out[#out + 1] = found[i + 1]
  out[#out + 1] = redis.call('HGET', schedules, found[i]) or ''
end
return out
