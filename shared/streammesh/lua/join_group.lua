#!lua flags=allow-oom
-- Makes a service's group on streams where it is missing, but not that of a service that was taken away: its group
-- would keep events for nobody. A Redis that has lost its data has no version either; then groups are made as asked.
-- It begins no sooner than the service joined. Of what is in the stream already some may have been handed over to a group
-- that was deleted: `:anew` says up to where, and handoff.lua leaves out what of that has no row any more.
-- KEYS manifests (HASH), version (STRING), joined (HASH)
-- ARGS group (the service's name), start (where it begins), is_service (whether it is a service's)
-- domains: KEYS stream (STREAM), routed (HASH) ARGS domain
-- Returns 1 if the group is there now, 0 if the service was taken away.
if is_service and redis.call('EXISTS', version) == 1 and redis.call('HEXISTS', manifests, group) == 0 then return 0 end
for _, one in ipairs(domains) do
  local from = is_service and redis.call('HGET', joined, one.domain .. ' ' .. group) or start
  if not string.find(from, '^%d+%-%d+$') then from = start end
  redis.call('HLEN', one.routed)  -- fails here, before the group is made, where it is no hash
  local made = redis.pcall('XGROUP', 'CREATE', one.stream, group, from, 'MKSTREAM')
  if made.err then
    if not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
  elseif is_service then
    local found, info = redis.call('XINFO', 'STREAM', one.stream), {}
    for i = 1, #found, 2 do info[found[i]] = found[i + 1] end
    if info.length > 0 then redis.call('HSET', one.routed, ':anew ' .. group, info['last-generated-id']) end
  end
end
return 1
