// Errors that say which model they are about.
#pragma once

#include <functional>
#include <string>

namespace lithe::cli {

/// Runs `work`. What the user can mend and is told without any file or flag is about the model: its path is
/// put in front. `verb` is a word that messages about the command line begin with.
void naming_model(const std::string& verb, const std::string& model, const std::function<void()>& work);

}  // namespace lithe::cli
