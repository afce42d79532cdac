-- What is used of the memory that Redis may have, and how much that is: 0, 0 where it has no limit or does not say.
-- INFO costs as much as half an event, so a reading holds for 50 ms.
local function memory(key, now)
  local known = redis.pcall('GET', key)
  if type(known) == 'string' then
    local at, used, most = string.match(known, '^(%d+) (%d+) (%d+)$')
    if at and now - tonumber(at) < 50 and now >= tonumber(at) then return tonumber(used), tonumber(most) end
  end
  local told = redis.pcall('INFO', 'memory')  -- refused to a user without the right to it
  if type(told) ~= 'string' then return 0, 0 end
  local function said(name) return tonumber(string.match(told, '[\r\n]' .. name .. ':(%d+)')) or 0 end
  local most = said('maxmemory')
  local used = most > 0 and math.max(0, said('used_memory') - said('mem_not_counted_for_evict')) or 0
  redis.pcall('SET', key, digits(now) .. ' ' .. digits(used) .. ' ' .. digits(most))
  return used, most
end
