# cmake -DINPUT=<file> -DOUTPUT=<header> -DNAME=<constant> -P embed_text.cmake: a text file as a C++ constant.
file(READ ${INPUT} text)
file(WRITE ${OUTPUT} "#pragma once\nnamespace lithe {\ninline constexpr char ${NAME}[] = R\"lithe_text(${text})lithe_text\";\n}\n")
