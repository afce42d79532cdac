#!lua flags=allow-oom
-- Puts the groups of all services that the router serves to where it is: what is counted and trimmed goes by them.
-- KEYS stream (STREAM, of events), routed (HASH, how far the router is, and whom it serves)
-- Returns how many.
--#include _position.lua
local found, state, services = redis.call('HGETALL', routed), {}, 0
for i = 1, #found, 2 do state[found[i]] = found[i + 1] end
local at = state[':at']
for service, began in pairs(at and state or {}) do
  if string.sub(service, 1, 1) ~= ':' and not is_before(at, began) then
    redis.pcall('XGROUP', 'SETID', stream, service, at, 'ENTRIESREAD', state[':read'])
    services = services + 1
  end
end
return services
