-- What a process of one format of keys and scripts may do in a mesh. What is no number there counts as none.
local function number_of(field)
  local found = redis.call('HGET', format, field)
  return found and string.find(found, '^%d+$') and #found < 10 and tonumber(found) or 0
end

-- 'newer': the mesh has gone on to what it cannot work with; 'older': it is to be migrated first.
local function standing()
  if number_of('oldest') > mine then return 'newer' end
  return number_of('version') < mine and 'older' or 'same'
end
