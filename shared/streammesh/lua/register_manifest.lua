#!lua flags=allow-oom
-- Stores a service's manifest and makes its consumer groups, so that from this moment nothing is
-- missed and nothing older comes unasked: at the end of streams that exist, at the start of new ones.
-- A service that begins to want every domain (a glob leaves the domain open) joins each that exists at its
-- end; a domain that comes into being later it joins from the beginning, which is its lane's business.
-- The version says to a dispatcher that its routes are of yesterday, before it judges an event by them; it
-- begins with the time, so that it does not come again after Redis lost its data.
-- KEYS[1] manifests (HASH)  KEYS[2] domains (SET)  KEYS[3] version (STRING)  KEYS[4] joined (HASH)
-- then per domain named: its stream (STREAM)
-- ARGV[1] service  ARGV[2] manifest (JSON)  ARGV[3] channel for changes  ARGV[4] 1 if a domain is left open
-- ARGV[5] what a stream's key begins with, before its domain (all in one slot; also that of KEYS[5] and on)
-- ARGV[6] where groups begin that are missing: '$', or '0' for a service that Redis has forgotten, which then
--   misses nothing; what was handed over before is not handed over again
-- Returns 1 if it differs from what was there, 0 if not.
local function join(stream)
  local at, info = { ARGV[6], 'MKSTREAM' }, {}
  if ARGV[6] == '$' and redis.call('TYPE', stream).ok == 'stream' then
    local found = redis.call('XINFO', 'STREAM', stream)
    for i = 1, #found, 2 do info[found[i]] = found[i + 1] end
    -- Without it Redis does not know the lag of a group that begins in the middle.
    at[3], at[4] = 'ENTRIESREAD', info['entries-added']
  end
  local made = redis.pcall('XGROUP', 'CREATE', stream, ARGV[1], unpack(at))
  if made.err then
    if not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
  elseif ARGV[6] == '$' then
    redis.call('HSET', KEYS[4], string.sub(stream, #ARGV[5] + 1) .. ' ' .. ARGV[1], info['last-generated-id'] or '0-0')
  end
end
local function open(manifest)
  if not manifest then return false end
  local readable, value = pcall(cjson.decode, manifest)
  if not readable or type(value.subscriptions) ~= 'table' then return false end
  for _, subscription in ipairs(value.subscriptions) do
    if string.find(string.match(subscription.type or '', '^[^.]*'), '[*?]') then return true end
  end
  return false
end
for i = 5, #KEYS do
  local failed = join(KEYS[i])
  if failed then return failed end
end
local before = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[4] == '1' and not open(before) then
  for _, domain in ipairs(redis.call('SMEMBERS', KEYS[2])) do
    local failed = join(ARGV[5] .. domain)
    if failed then return failed end
  end
end
if before == ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if redis.call('EXISTS', KEYS[3]) == 0 then
  local t = redis.call('TIME')
  redis.call('SET', KEYS[3], t[1] .. string.format('%06d', t[2]))
end
redis.call('INCR', KEYS[3])
redis.call('PUBLISH', ARGV[3], 'manifests')
return 1
