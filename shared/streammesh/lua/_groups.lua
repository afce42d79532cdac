-- What XINFO tells, by name.
local function named(row)
  local of = {}
  for i = 1, #row, 2 do of[row[i]] = row[i + 1] end
  return of
end

-- What XINFO GROUPS tells of one group; nothing where it is not there, or no stream is.
local function group_of(stream, name)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  for _, row in ipairs(groups.err and {} or groups) do
    local of = named(row)
    if of.name == name then return of end
  end
end
