#!lua flags=allow-oom
-- Takes services from the router: their groups are put to where it is, and their lanes go on from there.
-- KEYS stream (STREAM, of events), routed (HASH, how far the router is, and whom it serves)
-- ARGS is_restart (whether it is all, and the router begins anew at the stream's end), services (else which)
-- Returns how many it served.
--#include _served.lua
local at = redis.call('HGET', routed, ':at')
if not at then return 0 end
local leaving, left = services, 0
if is_restart then leaving = redis.call('HKEYS', routed) end
for _, service in ipairs(leaving) do
  if not is_restart then redis.call('HDEL', routed, ':anew ' .. service) end
  if string.sub(service, 1, 1) ~= ':' and stop_serving(service, at) then left = left + 1 end
end
if is_restart and redis.call('TYPE', stream).ok == 'stream' then
  local found, info = redis.call('XINFO', 'STREAM', stream), {}
  for i = 1, #found, 2 do info[found[i]] = found[i + 1] end
  redis.call('HSET', routed, ':at', info['last-generated-id'], ':read', info['entries-added'] or 0)
end
return left
