-- Stores a service's manifest and makes its consumer groups; the names are those of register_manifest.lua. Returns 1 if it
-- differs from what was there, 0 if not, or an error that Redis gave, with the manifest as it was.
local function register()
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
  for _, stream in ipairs(streams) do
    local failed = join(stream)
    if failed then return failed end
  end
  local stored = redis.call('HGET', manifests, service)
  if is_open and not open(stored) then
    for _, domain in ipairs(redis.call('SMEMBERS', domains)) do
      local failed = join(prefix .. domain)
      if failed then return failed end
    end
  end
  if stored == manifest and redis.pcall('GET', sealed) == manifest then return 0 end
  if redis.call('EXISTS', version) == 0 then
    local t = redis.call('TIME')
    redis.call('SET', version, t[1] .. string.format('%06d', t[2]))
  end
  redis.call('INCR', version) -- fails where it is no number; nothing is stored then
  redis.call('HSET', manifests, service, manifest)
  redis.call('SET', sealed, manifest)
  redis.call('PUBLISH', changed, 'manifests')
  return 1
end
