#!lua flags=allow-oom
-- Makes a dispatcher the one that routes a domain, for a while, unless another one is. That saves work and is no gate:
-- route.lua is. Where nothing is known of the router it begins where the foremost group is, and serves those that are
-- there with nothing in anybody's hands; what is before that is the lanes'.
-- KEYS stream (STREAM, of events), routed (HASH, how far the router is, and whom it serves), manifests (HASH)
-- ARGS dispatcher (its name), lifetime (ms; 0: it is given up), known (the set of served services that it knows, or '')
-- Returns {whether it is the one (1 or 0), position, the set's number, whether the services follow (1 or 0), service, ...}.
--#include _time.lua
--#include _position.lua
--#include _groups.lua
local now = now_ms()
local function begin()
  local at, read, groups, foremost = '0-0', 0, {}, nil
  if redis.call('TYPE', stream).ok == 'stream' then
    local info = named(redis.call('XINFO', 'STREAM', stream))
    at, read = info['last-generated-id'], info['entries-added']
    for _, listed in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
      local group = named(listed)
      if redis.call('HEXISTS', manifests, group.name) == 1 then
        groups[#groups + 1] = group
        if not foremost or is_before(foremost['last-delivered-id'], group['last-delivered-id']) then foremost = group end
      end
    end
  end
  if foremost then at, read = foremost['last-delivered-id'], foremost['entries-read'] end
  -- The number begins with the time, so that it does not come again after Redis lost its data.
  redis.call('HSET', routed, ':at', at, ':read', read or 0, ':members', digits(now))
  for _, group in ipairs(groups) do
    if group.pending == 0 and group['last-delivered-id'] == at then redis.call('HSET', routed, group.name, at) end
  end
end
-- Whether what is there was written by us; else it begins with the groups, which follow within moments.
local function is_sound()
  local state = redis.call('HMGET', routed, ':at', ':members', ':read')
  local members, read = state[2] or '', state[3] or '0'
  if not string.find(state[1] or '', '^%d+%-%d+$') then return false end
  return #members <= 15 and #read <= 15 and string.find(members, '^%d+$') and string.find(read, '^%d+$')
end
if not is_sound() then
  for _, name in ipairs(redis.call('HKEYS', routed)) do
    if string.sub(name, 1, 6) ~= ':anew ' then redis.call('HDEL', routed, name) end
  end
  begin()
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
