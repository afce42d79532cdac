-- Services that the router serves: fields of `routed`, each with the position where that began.
--#include _position.lua

-- Puts a service's group to a position; where it is gone it is made there.
local function put_group(service, position, read)
  local answer
  if read then
    answer = redis.pcall('XGROUP', 'SETID', stream, service, position, 'ENTRIESREAD', read)
  else
    answer = redis.pcall('XGROUP', 'SETID', stream, service, position)
  end
  local is_service = string.sub(service, 1, 1) ~= '_'
  if answer.err and is_service then redis.pcall('XGROUP', 'CREATE', stream, service, position, 'MKSTREAM') end
end

-- From now on a service's own group says what it was not handed: all that is after `at`, how far the router is.
local function stop_serving(service, at)
  local began = redis.call('HGET', routed, service)
  if not began then return false end
  if is_before(at, began) then
    put_group(service, began)
  else
    put_group(service, at, redis.call('HGET', routed, ':read'))
  end
  redis.call('HDEL', routed, service)
  redis.call('HINCRBY', routed, ':members', 1)
  return true
end
