#!lua flags=allow-oom
-- Stores a service's manifest and makes its consumer groups, so that from this moment nothing is
-- missed and nothing older comes unasked: at the end of streams that exist, at the start of new ones.
-- A service that begins to want every domain (a glob leaves the domain open) joins each that exists at its
-- end; a domain that comes into being later it joins from the beginning, which is its lane's business.
-- The version says to a dispatcher that its routes are of yesterday, before it judges an event by them; it
-- begins with the time, so that it does not come again after Redis lost its data.
-- KEYS manifests (HASH), domains (SET), version (STRING), joined (HASH), streams (STREAM, of each domain named)
-- ARGS service, manifest (JSON), changed (channel), is_open (whether a domain is left open),
--   prefix (what a stream's key begins with, before its domain: all in one slot, also that of the streams),
--   start (where groups begin that are missing: '$', or '0' for a service that Redis has forgotten, which then
--   misses nothing: what was handed over before is not handed over again),
--   before (what the caller read and made this manifest of, '' for none), is_checked (whether that has to be there still)
-- Returns 1 if it differs from what was there, 0 if not, -1 if something else was there: nothing was changed.
local function join(stream)
  local at, info = { start, 'MKSTREAM' }, {}
  if start == '$' and redis.call('TYPE', stream).ok == 'stream' then
    local found = redis.call('XINFO', 'STREAM', stream)
    for i = 1, #found, 2 do info[found[i]] = found[i + 1] end
    -- Without it Redis does not know the lag of a group that begins in the middle.
    at[3], at[4] = 'ENTRIESREAD', info['entries-added']
  end
  local made = redis.pcall('XGROUP', 'CREATE', stream, service, unpack(at))
  if made.err then
    if not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
  elseif start == '$' then
    redis.call('HSET', joined, string.sub(stream, #prefix + 1) .. ' ' .. service, info['last-generated-id'] or '0-0')
  end
end
local function open(stored)
  if not stored then return false end
  local readable, value = pcall(cjson.decode, stored)
  if not readable or type(value.subscriptions) ~= 'table' then return false end
  for _, subscription in ipairs(value.subscriptions) do
    if string.find(string.match(subscription.type or '', '^[^.]*'), '[*?]') then return true end
  end
  return false
end
local stored = redis.call('HGET', manifests, service)
if is_checked and (stored or '') ~= before then return -1 end
for _, stream in ipairs(streams) do
  local failed = join(stream)
  if failed then return failed end
end
if is_open and not open(stored) then
  for _, domain in ipairs(redis.call('SMEMBERS', domains)) do
    local failed = join(prefix .. domain)
    if failed then return failed end
  end
end
if stored == manifest then return 0 end
redis.call('HSET', manifests, service, manifest)
if redis.call('EXISTS', version) == 0 then
  local t = redis.call('TIME')
  redis.call('SET', version, t[1] .. string.format('%06d', t[2]))
end
redis.call('INCR', version)
redis.call('PUBLISH', changed, 'manifests')
return 1
