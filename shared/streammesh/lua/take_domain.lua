#!lua flags=allow-oom
-- Makes a dispatcher the one that routes a domain, for a while, unless another one is. That saves work and is no gate:
-- route.lua is. Where nothing is known of the router it begins at the stream's end and serves nobody yet: what is before
-- that is the lanes'.
-- KEYS stream (STREAM, of events), routed (HASH, how far the router is, and whom it serves)
-- ARGS dispatcher (its name), lifetime (ms; 0: it is given up), known (the set of served services that it knows, or '')
-- Returns {whether it is the one (1 or 0), position, the set's number, whether the services follow (1 or 0), service, ...}.
--#include _time.lua
local now = now_ms()
if redis.call('HEXISTS', routed, ':at') == 0 then
  local at, read = '0-0', 0
  if redis.call('TYPE', stream).ok == 'stream' then
    local found, info = redis.call('XINFO', 'STREAM', stream), {}
    for i = 1, #found, 2 do info[found[i]] = found[i + 1] end
    at, read = info['last-generated-id'], info['entries-added']
  end
  -- The number begins with the time, so that it does not come again after Redis lost its data.
  redis.call('HSET', routed, ':at', at, ':read', read or 0, ':members', digits(now))
end
local turn = redis.call('HMGET', routed, ':by', ':until', ':at', ':members')
local mine = turn[1] == dispatcher
if not mine and turn[1] and now < (tonumber(turn[2]) or 0) and now + 60000 > tonumber(turn[2]) then return { 0 } end
if lifetime == 0 then
  if mine then redis.call('HDEL', routed, ':by', ':until') end
  return { 0 }
end
redis.call('HSET', routed, ':by', dispatcher, ':until', digits(now + lifetime))
local out = { 1, turn[3], turn[4], 0 }
if turn[4] ~= known then
  out[4] = 1
  for _, name in ipairs(redis.call('HKEYS', routed)) do
    if string.sub(name, 1, 1) ~= ':' then out[#out + 1] = name end
  end
end
return out
